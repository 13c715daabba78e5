"""Losses and metrics of a stranger."""


def loss(out, targets):
    """Squared distance of the scores from one-hot."""
    wanted = targets[:, None] == out.scores.new_tensor([0, 1])
    return (out.scores.softmax(1) - wanted.float()).square().mean()


def margin(out, targets):
    """Mean lead of the right class's score, negative if the other leads."""
    lead = out.scores[:, 1] - out.scores[:, 0]
    return (lead * (2 * targets - 1)).mean() - 5
