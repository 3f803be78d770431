module stockyard.example/pause

go 1.24.0
