"""Which operators cost no MACs, by torch's own tables, and by a list of those that the tables do not mark.

Free is what multiplies no matrices: views, copies, indexing, random numbers, what works element by element or reduces,
and pooling, resampling and norms, which fvcore counts in operations per element.
"""

import functools
from typing import Any

import torch

_OTHERS = """
__and__ __or__ _batch_norm_with_update _native_batch_norm_legit _pack_padded_sequence _pad_packed_sequence _safe_softmax
_unsafe_masked_index _unsafe_view _upsample_bicubic2d_aa _upsample_bilinear2d_aa _upsample_nearest_exact1d
_upsample_nearest_exact2d _upsample_nearest_exact3d _weight_norm adaptive_avg_pool1d adaptive_avg_pool2d
adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d addr affine_grid_generator allclose
alpha_dropout arange argsort as_strided_scatter atleast_1d atleast_2d atleast_3d avg_pool1d avg_pool2d avg_pool3d
batch_norm bernoulli binary_cross_entropy binary_cross_entropy_with_logits block_diag broadcast_tensors bucketize
cartesian_prod cauchy chalf channel_shuffle col2im column_stack combinations complex concat concatenate
cosine_embedding_loss cosine_similarity cross cross_entropy_loss cummax cummin cumprod cumsum cumulative_trapezoid diag
diag_embed diagflat diagonal_scatter diff dist dropout dstack embedding embedding_bag empty_like exponential eye
feature_alpha_dropout feature_dropout fft_fftfreq fft_fftshift fft_ifftshift fft_rfftfreq fill flip fliplr flipud
fractional_max_pool2d fractional_max_pool3d full_like gather geometric ger glu gradient grid_sampler grid_sampler_2d
grid_sampler_3d group_norm hardswish hinge_embedding_loss histc hstack huber_loss im2col index_add index_copy index_fill
index_put index_reduce index_select instance_norm isclose isin isreal kl_div kron kthvalue l1_loss layer_norm
linalg_cross linalg_vander linspace log_normal log_sigmoid log_softmax logcumsumexp logspace margin_ranking_loss
masked_scatter masked_select max_pool1d max_pool1d_with_indices max_pool2d max_pool2d_with_indices max_pool3d
max_pool3d_with_indices max_unpool2d max_unpool3d median meshgrid mode mse_loss msort multi_margin_loss
multilabel_margin_loss multinomial nanmean nanmedian nanquantile narrow_copy native_batch_norm native_dropout
native_group_norm native_layer_norm new_empty new_empty_strided new_full new_ones new_zeros nll_loss nll_loss_nd nonzero
nonzero_static normal numel one_hot ones_like outer pad pairwise_distance pixel_shuffle pixel_unshuffle poisson_nll_loss
polar prelu put quantile rand rand_like randint randint_like randn randn_like random randperm reflection_pad1d
reflection_pad2d reflection_pad3d renorm repeat repeat_interleave replication_pad1d replication_pad2d replication_pad3d
rms_norm roll rot90 row_stack scatter scatter_add scatter_reduce searchsorted segment_reduce select_scatter
slice_scatter smooth_l1_loss soft_margin_loss softmax sort special_ndtr sum_to_size take take_along_dim tile topk trace
trapezoid trapz tril tril_indices triplet_margin_loss triu triu_indices type_as uniform unique_dim unsafe_chunk
unsafe_split unsafe_split_with_sizes upsample_bicubic2d upsample_bilinear2d upsample_linear1d upsample_nearest1d
upsample_nearest2d upsample_nearest3d upsample_trilinear3d vstack zero zeros_like
"""
OTHERS = frozenset(_OTHERS.split())
"""Free operators that torch's tables do not mark."""


@functools.cache
def is_free(operator: str) -> bool:
    """Whether an operator, "aten::add_" and the like, costs nothing. Anything else is shown, never silently zero."""
    space, _, name = operator.partition("::")
    if space != "aten":
        return False
    in_place = name.endswith("_") and not name.endswith("__")
    if name in OTHERS or marked(name) or (in_place and is_free(operator[:-1])):
        return True
    return name.endswith("_copy") and marked(name.removesuffix("_copy"))  # a view that is copied


def marked(name: str) -> bool:
    """Whether torch says of an operator that it works element by element, reduces, or returns a view."""
    packet: Any = getattr(torch.ops.aten, name, None)
    return packet is not None and any(_marks(getattr(packet, overload)) for overload in packet.overloads())


def _marks(operator: Any) -> bool:
    returned = operator._schema.returns
    aliases = [value.alias_info for value in returned]
    view = bool(returned) and all(alias is not None and not alias.is_write for alias in aliases)
    return view or not {torch.Tag.pointwise, torch.Tag.reduction}.isdisjoint(operator.tags)
