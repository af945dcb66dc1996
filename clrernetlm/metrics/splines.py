"""Interpolates the points of lanes by the curves of both metric implementations before lanes are drawn.

Both curves are written out instead of called from a library, because `clrernet` truncates the curve to whole pixels,
where a difference in the last bit moves a vertical lane by one pixel.
"""

from __future__ import annotations

import math

import numpy as np

from clrernetlm.core.arrays import Float32Array, Float64Array
from clrernetlm.core.numba_jit import kernel

POINT_LIMIT = float(1 << 30)  # limit of coordinates, so that squares and fixed point cannot overflow


@kernel
def distinct_points(points: Float64Array) -> Float64Array:
    """Remove points that repeat their predecessor, (n, 2) -> (m, 2); at least min(n, 2) points are left.

    A point is kept if it adds to the arc length in float64, by which both curves divide.
    """
    kept = np.empty_like(points)
    count = 0
    travelled = 0.0
    for i in range(len(points)):
        x = min(max(points[i, 0], -POINT_LIMIT), POINT_LIMIT)
        y = min(max(points[i, 1], -POINT_LIMIT), POINT_LIMIT)
        if count > 0:
            dx, dy = x - kept[count - 1, 0], y - kept[count - 1, 1]
            further = travelled + math.sqrt(dx * dx + dy * dy)
            if further == travelled:
                continue
            travelled = further
        kept[count, 0], kept[count, 1] = x, y
        count += 1
    if count == 1 and len(points) > 1:
        kept[1, 0], kept[1, 1] = kept[0, 0], kept[0, 1]
        count = 2
    return kept[:count]


@kernel
def _basis(knots: Float64Array, degree: int, span: int, u: float, values: Float64Array) -> None:
    """Evaluate the degree + 1 B-splines that are not zero at `u`, knots[span] <= u < knots[span + 1] (de Boor)."""
    previous = np.empty(4)
    values[0] = 1.0
    for order in range(1, degree + 1):
        for i in range(order):
            previous[i] = values[i]
        values[0] = 0.0
        for i in range(order):
            right = knots[span + 1 + i]
            left = knots[span + 1 + i - order]
            factor = previous[i] / (right - left)
            values[i] += factor * (right - u)
            values[i + 1] = factor * (u - left)


@kernel
def _cubic_basis(knots: Float64Array, span: int, u: float) -> tuple[float, float, float, float]:
    """Evaluate `_basis` of degree 3 with unrolled loops, which takes most of a lane's time."""
    l2, l1, l0 = knots[span - 2], knots[span - 1], knots[span]
    r0, r1, r2 = knots[span + 1], knots[span + 2], knots[span + 3]
    first = 1.0 / (r0 - l0)
    a, b = first * (r0 - u), first * (u - l0)
    first, second = a / (r0 - l1), b / (r1 - l0)
    a, b, c = first * (r0 - u), first * (u - l1) + second * (r1 - u), second * (u - l0)
    first, second, third = a / (r0 - l2), b / (r1 - l1), c / (r2 - l0)
    return (
        first * (r0 - u),
        first * (u - l2) + second * (r1 - u),
        second * (u - l1) + third * (r2 - u),
        third * (u - l0),
    )


@kernel
def _chord_parameters(points: Float64Array) -> Float64Array:
    """Compute the arc length up to each point, (n, 2) -> (n,), as a fraction of the total."""
    u = np.zeros(len(points))
    for i in range(1, len(points)):
        dx = points[i, 0] - points[i - 1, 0]
        dy = points[i, 1] - points[i - 1, 1]
        u[i] = u[i - 1] + math.sqrt(dx * dx + dy * dy)
    total = u[-1]
    for i in range(1, len(points)):
        u[i] /= total
    u[-1] = 1.0
    return u


@kernel
def _interpolation_knots(u: Float64Array, degree: int) -> Float64Array:
    """Compute the knots of the interpolating spline: the data's parameters, or their midpoints for an even degree."""
    count = len(u)
    knots = np.empty(count + degree + 1)
    knots[: degree + 1] = u[0]
    knots[count:] = u[-1]
    half = degree // 2
    for i in range(count - degree - 1):
        if degree % 2:
            knots[degree + 1 + i] = u[half + 1 + i]
        else:
            knots[degree + 1 + i] = (u[half + 1 + i] + u[half + i]) * 0.5
    return knots


@kernel
def _interpolation_coefficients(
    points: Float64Array, u: Float64Array, knots: Float64Array, degree: int
) -> Float64Array:
    """Solve the banded collocation system by Givens rotations, one data point at a time, then back substitution.

    Same operations in the same order as FITPACK's `parcur` with s = 0 (Dierckx, Curve and Surface Fitting with
    Splines, 1993, chapter 4), hence the same bits as `scipy.interpolate.splprep`.
    """
    count, width = len(points), degree + 1
    band = np.zeros((count, width))  # row i: diagonal and the entries right of it
    solution = np.zeros((count, 2))
    basis = np.empty(4)
    span = degree
    for row in range(count):
        while span < count - 1 and u[row] >= knots[span + 1]:
            span += 1
        if degree == 3:
            basis[0], basis[1], basis[2], basis[3] = _cubic_basis(knots, span, u[row])
        else:
            _basis(knots, degree, span, u[row], basis)
        x, y = points[row, 0], points[row, 1]
        for i in range(width):
            pivot = basis[i]
            if pivot == 0.0:
                continue
            j = span - degree + i
            diagonal = band[j, 0]
            if abs(pivot) >= diagonal:
                ratio = diagonal / pivot
                length = abs(pivot) * math.sqrt(1.0 + ratio * ratio)
            else:
                ratio = pivot / diagonal
                length = diagonal * math.sqrt(1.0 + ratio * ratio)
            cosine, sine = diagonal / length, pivot / length
            band[j, 0] = length
            x, solution[j, 0] = cosine * x - sine * solution[j, 0], cosine * solution[j, 0] + sine * x
            y, solution[j, 1] = cosine * y - sine * solution[j, 1], cosine * solution[j, 1] + sine * y
            for k in range(i + 1, width):
                old, entry = basis[k], band[j, k - i]
                band[j, k - i] = cosine * entry + sine * old
                basis[k] = cosine * old - sine * entry
    for axis in range(2):
        for i in range(count - 1, -1, -1):
            rest = solution[i, axis]
            for k in range(1, min(width, count - i)):
                rest -= solution[i + k, axis] * band[i, k]
            solution[i, axis] = rest / band[i, 0]
    return solution


@kernel
def parametric_curve(points: Float64Array, samples: int) -> Float64Array:
    """Interpolate by a B-spline of degree min(3, n - 1) over chord length, (n, 2) -> ((n - 1) * samples + 1, 2).

    Evaluated at uniform parameters. Points must differ from their neighbours, n >= 2; two equal points are returned
    unchanged.
    """
    if len(points) == 2 and points[0, 0] == points[1, 0] and points[0, 1] == points[1, 1]:
        return points.copy()
    degree = min(3, len(points) - 1)
    u = _chord_parameters(points)
    knots = _interpolation_knots(u, degree)
    coefficients = _interpolation_coefficients(points, u, knots, degree)
    steps = (len(points) - 1) * samples
    step = 1.0 / steps
    curve = np.empty((steps + 1, 2))
    basis = np.empty(4)
    span = degree
    for i in range(steps + 1):
        at = i * step if i < steps else 1.0
        while span < len(points) - 1 and at >= knots[span + 1]:
            span += 1
        first = span - degree
        if degree == 3:
            a, b, c, d = _cubic_basis(knots, span, at)
            for axis in range(2):
                curve[i, axis] = (
                    coefficients[first, axis] * a
                    + coefficients[first + 1, axis] * b
                    + coefficients[first + 2, axis] * c
                    + coefficients[first + 3, axis] * d
                )
            continue
        _basis(knots, degree, span, at, basis)
        x = 0.0
        y = 0.0
        for j in range(degree + 1):
            x += coefficients[first + j, 0] * basis[j]
            y += coefficients[first + j, 1] * basis[j]
        curve[i, 0] = x
        curve[i, 1] = y
    return curve


@kernel
def _natural_moments(values: Float32Array, h: Float64Array) -> Float64Array:
    """Compute second derivatives at the knots of the natural cubic spline through `values` (n,), `h` (n - 1,) apart."""
    count = len(values)
    moments = np.zeros(count)
    upper = np.empty(count - 2)
    right = np.empty(count - 2)
    for i in range(count - 2):
        slope = np.float64(values[i + 2] - values[i + 1]) / h[i + 1]
        change = 6.0 * (slope - np.float64(values[i + 1] - values[i]) / h[i])
        diagonal = 2.0 * (h[i] + h[i + 1])
        if i > 0:
            diagonal -= h[i] * upper[i - 1]
            change -= h[i] * right[i - 1]
        upper[i] = h[i + 1] / diagonal
        right[i] = change / diagonal
    for i in range(count - 3, -1, -1):
        moments[i + 1] = right[i] - upper[i] * moments[i + 2]
    return moments


@kernel
def natural_curve(points: Float64Array, samples: int) -> Float64Array:
    """Interpolate by a natural cubic spline over chord length in float32, (n, 2) -> ((n - 1) * samples + 1, 2) float64.

    Every segment is sampled in `samples` equal steps of chord length; the last point is added. Two points are returned
    without interpolation. Points must differ from their neighbours, n >= 2.
    """
    single = points.astype(np.float32)
    count = len(points)
    if count == 2:
        return single.astype(np.float64)
    h = np.empty(count - 1)
    for i in range(count - 1):
        dx = np.float64(single[i + 1, 0] - single[i, 0])
        dy = np.float64(single[i + 1, 1] - single[i, 1])
        h[i] = math.sqrt(dx * dx + dy * dy)
    curve = np.empty(((count - 1) * samples + 1, 2))
    for axis in range(2):
        values = single[:, axis].copy()
        moments = _natural_moments(values, h)
        for i in range(count - 1):
            slope = np.float64(values[i + 1] - values[i]) / h[i]
            linear = slope - (2.0 * h[i] * moments[i] + h[i] * moments[i + 1]) / 6.0
            square = moments[i] / 2.0
            cube = (moments[i + 1] - moments[i]) / (6.0 * h[i])
            step = h[i] / samples
            for k in range(samples):
                t = step * k
                value = values[i] + linear * t + square * (t * t) + cube * (t * t * t)
                curve[i * samples + k, axis] = np.float32(value)
        curve[-1, axis] = values[-1]
    return curve
