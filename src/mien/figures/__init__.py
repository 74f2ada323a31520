"""Draw figures with matplotlib.

Tests: `affect_plane`, `confusion`, `forest_plot`, `image_grid`, `learning_curves`, `reliability` and `saliency` in
tests/figures/test_figures.py; `context` and `embedding` in tests/figures/test_method_figures.py.
"""
