"""What all row-groups share: tables, runs, histograms, corpora, conditions, builds."""
