"""Reports in HTML, Markdown and LaTeX.

Tests: `comparison_report` in tests/test_compare.py; `evaluation_report` in tests/test_evaluate.py; `figure_set` in
tests/figures/test_method_figures.py.
"""
