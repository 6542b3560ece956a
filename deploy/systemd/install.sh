#!/usr/bin/env bash
# Install the units, the group and the folder of the stats pages: `sudo deploy/systemd/install.sh [DESTDIR]`.
# Enables and starts nothing. Running it again updates what it installed.
set -euo pipefail
cd "$(dirname "$0")"
readonly root=${1:-}

install -d "$root"/usr/lib/systemd/system "$root"/usr/lib/sysusers.d "$root"/usr/lib/tmpfiles.d "$root"/etc/hisparse
install -m 644 hisparse-exporter.service hisparse-exporter.socket hisparse-sidecar@.service "$root"/usr/lib/systemd/system/
install -m 644 hisparse.sysusers "$root"/usr/lib/sysusers.d/hisparse.conf
install -m 644 hisparse.tmpfiles "$root"/usr/lib/tmpfiles.d/hisparse.conf

systemd-sysusers --root="$root/" hisparse.conf
if [ -z "$root" ]; then
    systemd-tmpfiles --create hisparse.conf
    systemctl daemon-reload
fi
