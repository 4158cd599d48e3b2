"""Pictures of flow: colours, legends, contact sheets, comparisons and films.

They show a `Video` of a corpus, or any object with its attributes (`flowprep.viz.shots.FlowVideo`).
"""

from __future__ import annotations

from flowprep.viz.canvas import distance_legend, legend, save_png
from flowprep.viz.colours import distance_to_rgb, draw_arrows, flow_to_rgb
from flowprep.viz.film import film_frames
from flowprep.viz.film_file import save_film
from flowprep.viz.sheet import comparison_sheet, contact_sheet

__all__ = [
    "comparison_sheet",
    "contact_sheet",
    "distance_legend",
    "distance_to_rgb",
    "draw_arrows",
    "film_frames",
    "flow_to_rgb",
    "legend",
    "save_film",
    "save_png",
]
