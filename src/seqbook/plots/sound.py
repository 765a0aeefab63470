"""Audio players for pages."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping

from seqbook.data.sound import Recording, to_wav

__all__ = ["Player"]


class Player:
    """Audio players, one labelled player per recording, with the sound embedded in the page.

    Args:
        recordings: Label to recording. Labels are shown and read by screen readers.

    Example:
        >>> from seqbook.data import sound
        >>> Player({"seven": sound.load(7)})
        Player(seven)
    """

    def __init__(self, recordings: Mapping[str, Recording]):
        self.recordings = dict(recordings)

    def __repr__(self) -> str:
        return f"Player({', '.join(self.recordings)})"

    def _repr_html_(self) -> str:
        return "\n".join(
            f"<p>{html.escape(label)}<br>"
            f'<audio controls aria-label="{html.escape(label, quote=True)}" '
            f'src="data:audio/wav;base64,{base64.b64encode(to_wav(recording)).decode()}">'
            "</audio></p>"
            for label, recording in self.recordings.items()
        )
