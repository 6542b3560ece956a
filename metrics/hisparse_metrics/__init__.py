"""HiSparse observability: one metric catalogue, the stats page, the exporter and the decode log grammar."""
