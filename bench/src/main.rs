//! Measures the services side by side with what people would use instead.

fn main() {}
