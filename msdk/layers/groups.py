"""The group count of DDPM++: arithmetic alone, so that a recipe is checked without torch."""


def group_count(channels: int, groups: int) -> int:
    """min(channels / 4, groups), as score_sde and EDM choose it; at least 1."""
    return max(min(channels // 4, groups), 1)
