"""A step of all models of a stack, as one list of torch's operations."""

import operator
from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import Graph, GraphModule, Node
from torch.fx.experimental.proxy_tensor import make_fx

ATEN = torch.ops.aten
SAME_VALUES = (ATEN.view.default, ATEN._unsafe_view.default, ATEN.expand.default, ATEN.alias.default, ATEN.permute.default)
MADE_FROM_SHAPES = (ATEN.ones_like.default, ATEN.zeros_like.default, ATEN.full_like.default)


def traced(function: Callable[..., Sequence[Tensor]], inputs: Sequence[Tensor]) -> GraphModule:
    """The operations of a function of tensors, whose derivatives are taken within it, without those that change nothing.

    Args:
        function: of as many tensors, to tensors.
        inputs: of the shapes that it will have.
    """
    module = make_fx(function)(*inputs)
    graph = module.graph
    changed = changed_in_place(graph)
    for node in list(graph.nodes):
        same = same_as(node, changed)
        if same is not None:
            node.replace_all_uses_with(same)
            graph.erase_node(node)
    fold_constants(module, changed)
    fuse_linear(module)
    graph.eliminate_dead_code()
    module.recompile()
    return module


def tensor_of(node: Any) -> Any:
    """The tensor that a node was when it was traced; None if it was none."""
    value = node.meta.get("val") if isinstance(node, Node) else None
    return value if isinstance(value, Tensor) else None


def same_as(node: Node, changed: Collection[Node]) -> Node | None:
    """The node whose values, shape and strides a node only repeats; None if it does something.

    Args:
        node: any.
        changed: the nodes whose values are changed in place.
    """
    if node.op != "call_function" or not node.args or not isinstance(node.args[0], Node):
        return None
    first, value, before = node.args[0], tensor_of(node), tensor_of(node.args[0])
    if value is None or before is None or value.shape != before.shape or value.dtype != before.dtype:
        return None
    if value.stride() == before.stride() and node.target in SAME_VALUES:
        return first
    once = node.target in (ATEN.mul.Scalar, ATEN.mul.Tensor, ATEN.pow.Tensor_Scalar) and len(node.args) == 2
    if once and isinstance(node.args[1], int | float) and node.args[1] == 1 and not {node, first} & set(changed):
        return first
    if node.target is ATEN.transpose.int and first.target is ATEN.transpose.int and node.args[1:] == first.args[1:]:
        return first.args[0]  # type: ignore[return-value]
    return None


def changes_in_place(node: Node) -> bool:
    schema = getattr(node.target, "_schema", None)
    return schema is not None and schema.is_mutable


def is_view(node: Node) -> bool:
    """True if a node shares the memory of its first argument."""
    schema = getattr(node.target, "_schema", None)
    return schema is not None and any(each.alias_info is not None for each in schema.returns)


def changed_in_place(graph: Graph) -> set[Node]:
    """The nodes whose memory an operation writes to, whichever view of it the operation was given."""
    roots = dict[Node, Node]()
    for node in graph.nodes:
        shares = node.target is operator.getitem or is_view(node)
        roots[node] = roots[node.args[0]] if shares and node.args and isinstance(node.args[0], Node) else node
    written = {roots[node] for node in graph.nodes if changes_in_place(node)}
    return {node for node, root in roots.items() if root in written}


def fold_constants(module: GraphModule, changed: Collection[Node]) -> None:
    """Computes once what depends on shapes alone."""
    graph, known = module.graph, dict[Node, Any]()
    with torch.no_grad():
        for node in list(graph.nodes):
            if node.op != "call_function" or node in changed or (value := tensor_of(node)) is None:
                continue
            if node.target in MADE_FROM_SHAPES:
                fill = {ATEN.ones_like.default: 1, ATEN.zeros_like.default: 0}.get(node.target, node.args[-1])
                known[node] = torch.full(value.shape, fill, dtype=value.dtype, device=value.device)
            elif all(each in known for each in node.all_input_nodes) and is_pure(node):
                args, kwargs = torch.fx.map_arg((node.args, node.kwargs), lambda each: known[each])
                known[node] = node.target(*args, **kwargs)
    for i, (node, value) in enumerate(known.items()):
        if all(user in known for user in node.users):
            continue
        module.register_buffer(f"constant_{i}", value)
        with graph.inserting_before(node):
            node.replace_all_uses_with(graph.get_attr(f"constant_{i}"))


def is_pure(node: Node) -> bool:
    return torch.Tag.nondeterministic_seeded not in getattr(node.target, "tags", ()) and "empty" not in str(node.target)


def fuse_linear(module: GraphModule) -> None:
    """Adds the bias of a linear layer within its product."""
    for node in list(module.graph.nodes):
        if node.target is not ATEN.add.Tensor or node.kwargs or len(node.args) != 2:
            continue
        for bias, product in (node.args, node.args[::-1]):
            is_product = isinstance(product, Node) and product.target is ATEN.bmm.default and len(product.users) == 1
            if is_product and tensor_of(bias) is not None and tensor_of(node).shape == tensor_of(product).shape:
                with module.graph.inserting_before(node):
                    fused = module.graph.call_function(ATEN.baddbmm.default, (bias, *product.args))
                fused.meta = dict(node.meta)
                node.replace_all_uses_with(fused)
                break
