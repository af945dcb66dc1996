"""Moves objects and vehicles beyond a fork with the branch that departs."""

from __future__ import annotations

from dataclasses import replace

from clrernetlm.synth.environment.backdrop import Backdrop
from clrernetlm.synth.environment.roadside_objects import (
    BarrierSegment,
    Building,
    Pole,
    PowerLines,
    SceneObject,
    Sign,
    Tree,
)
from clrernetlm.synth.environment.traffic import Vehicle
from clrernetlm.synth.road.layout import RoadFork


def move_objects(objects: list[SceneObject], fork: RoadFork) -> list[SceneObject]:
    """Return `objects` where the fork leads them; power lines beyond the fork, which cannot follow, are left out."""
    moved: list[SceneObject] = []
    for item in objects:
        if isinstance(item, BarrierSegment):
            near, far = fork.shift(item.offset, [item.distance, item.far]).tolist()
            moved.append(replace(item, offset=item.offset + near, far_shift=far - near))
        elif isinstance(item, Building):  # its far corner touches the departing branch first
            shift = float(fork.shift(item.offset, item.distance + item.depth))
            moved.append(replace(item, offset=item.offset + shift))
        elif isinstance(item, (Pole, Sign, Tree)):
            moved.append(replace(item, offset=item.offset + float(fork.shift(item.offset, item.distance))))
        elif isinstance(item, Backdrop):
            beyond = (item.offset - fork.offset) * fork.side > 0
            moved.append(replace(item, bend=fork.bend, bend_from=fork.start) if beyond else item)
        elif not isinstance(item, PowerLines) or (item.offset - fork.offset) * fork.side <= 0:
            moved.append(item)
    return moved


def move_vehicles(vehicles: list[Vehicle], fork: RoadFork) -> list[Vehicle]:
    """Return `vehicles` where the fork leads them."""
    return [replace(v, offset=v.offset + float(fork.shift(v.offset, v.distance + 2.0))) for v in vehicles]
