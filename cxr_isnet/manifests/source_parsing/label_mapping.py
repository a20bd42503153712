"""Label mapping: from the publisher's labels of an image to one class, or to the reason why it has none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


class DroppedError(Exception):
    """An image that gets no row; the message is the reason under which it is counted."""


@dataclass(frozen=True)
class LabelMapping:
    """A mapping of the publisher's labels to classes. An image with no mapped label is dropped, never guessed.

    An image gets a class when its labels name exactly one. Labels without a class may stand beside one that has
    (pneumonia with effusion is pneumonia), but not beside a class of `exclusive`.

    Attributes:
        classes: Publisher's label to class; None takes every label as the name of its class.
        ignored: Labels unrelated to the lungs, as those of devices.
        excluding: Labels that drop an image whatever its other labels.
        exclusive: Classes that drop an image with any other label.
        hierarchy: Separator of the levels of labels that are paths; a label without a class inherits its parent's.
            Empty where labels are not paths.
    """

    classes: Mapping[str, str] | None
    ignored: frozenset[str] = frozenset()
    excluding: frozenset[str] = frozenset()
    exclusive: frozenset[str] = frozenset({"normal"})
    hierarchy: str = ""

    def class_of(self, findings: tuple[str, ...], uncertain: tuple[str, ...] = ()) -> str:
        """The class of an image.

        Args:
            findings: Labels that are present.
            uncertain: Labels that may be present; one that has a class drops the image.

        Raises:
            DroppedError: The labels have no class, or several.
        """
        for label in uncertain:
            if self._class_of(label):
                raise DroppedError(f"label '{label}' is uncertain")
        for label in findings:
            if label in self.excluding:
                raise DroppedError(f"label '{label}' excludes the image")
        relevant = [label for label in findings if label and label not in self.ignored]
        if not relevant:
            raise DroppedError("no label")
        named = {label: self._class_of(label) for label in relevant}
        classes = sorted({name for name in named.values() if name})
        if not classes:
            raise DroppedError(
                f"label '{relevant[0]}' has no class" if len(named) == 1 else "several labels, none has a class"
            )
        if len(classes) > 1:
            raise DroppedError(f"labels of several classes: {' + '.join(classes)}")
        if classes[0] in self.exclusive and not all(named.values()):
            raise DroppedError(f"'{classes[0]}' beside another label")
        return classes[0]

    def _class_of(self, label: str) -> str:
        if self.classes is None:
            return label
        while label not in self.classes:
            if not self.hierarchy or self.hierarchy not in label:
                return ""
            label = label.rpartition(self.hierarchy)[0]
        return str(self.classes[label])
