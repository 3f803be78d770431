# The roots of the images of PostgreSQL and Prometheus, of the Debian set that is named.
{
  lib,
  toolchain,
}: let
  imageRoot = import ./image-root.nix {inherit lib toolchain;};
  postgresql = "usr/lib/postgresql/17";
  share = "usr/share/postgresql/17";
in {
  # Of the extensions: the language that every database has, and the statistics that monitoring reads.
  postgresql = set:
    imageRoot set {
      programs =
        lib.genAttrs ["postgres" "initdb" "psql" "pg_dump" "pg_restore" "pg_isready" "pg_ctl" "createdb"]
        (name: "${postgresql}/bin/${name}");
      files = lib.concatStringsSep " " (
        map (name: "${postgresql}/lib/${name}.so")
        ["dict_snowball" "libpqwalreceiver" "pgoutput" "plpgsql" "pg_stat_statements" "*_and_*" "euc2004_sjis2004"]
        ++ map (name: "${share}/${name}")
        ["*.bki" "*.sample" "*.sql" "*.txt" "timezonesets/*" "tsearch_data/*" "extension/plpgsql*" "extension/pg_stat_statements*"]
      );
    };
  prometheus = set: imageRoot set {programs.prometheus = "usr/bin/prometheus";};
}
