"""What a benchmark writes: results, tables, plots and the page docs/performance.md."""
