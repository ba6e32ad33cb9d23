import KeelCore

extension Pass {
  /// Local rewrites to one form: neutral elements vanish, constants are folded, reshapes, broadcasts and transposes
  /// are merged or absorbed by what reads them.
  public static let canonicalize = Pass("canonicalize") { graph throws(GraphError) in
    try GraphRewriter.rewrite(graph) { rewriter, node, inputs throws(GraphError) in
      switch node.operation {
      case .elementwise(let operation): try canonical(operation, node, inputs, &rewriter)
      case .cast(let operation): try canonical(operation, node, inputs[0], &rewriter)
      case .broadcast, .reshape: try canonicalView(node, inputs[0], &rewriter)
      case .transpose(let operation): try canonical(operation, node, inputs[0], &rewriter)
      case .reduce(let operation): try canonical(operation, node, inputs[0], &rewriter)
      case .matMul(let operation): try canonical(operation, node, inputs, &rewriter)
      default: nil
      }
    }
  }
}

private func canonical(
  _ operation: Elementwise, _ node: Node, _ inputs: [Value], _ rewriter: inout GraphRewriter
) throws(GraphError) -> [Value]? {
  let type = node.types[0]
  let numbers = inputs.map { rewriter.splat($0) }

  let known = numbers.compactMap { $0 }
  // In double, then rounded once to the type. Integers that go beyond theirs are left to the device.
  let value = known.count == numbers.count ? operation.function.row.host(known) : nil
  if let value, Constant.has(type.dtype, value) {
    return try rewriter.append(.constant(Constant(type: type, values: [value])), [], path: node.path)
  }

  // The operand itself, where the function leaves it as it is.
  let unchanged: Int? =
    switch (operation.function, numbers.first ?? nil, numbers.last ?? nil) {
    case (.add, 0.0, _), (.multiply, 1.0, _): 1
    case (.add, _, 0.0), (.subtract, _, 0.0), (.multiply, _, 1.0), (.divide, _, 1.0): 0
    default: nil
    }
  if let unchanged, rewriter.type(of: inputs[unchanged]) == type { return [inputs[unchanged]] }

  if operation.function == .negate, case .elementwise(let inner) = rewriter.node(of: inputs[0]).operation,
    inner.function == .negate
  {
    return [rewriter.node(of: inputs[0]).inputs[0]]
  }

  // An elementwise function stretches its operands itself.
  var operands = inputs
  for (position, input) in inputs.enumerated() {
    let producer = rewriter.node(of: input)
    guard case .broadcast = producer.operation else { continue }
    operands[position] = producer.inputs[0]
    if try broadcastShape(operands.map { rewriter.type(of: $0) }, operation.name) != type.shape {
      operands[position] = input
    }
  }
  return operands == inputs ? nil : try rewriter.append(node.operation, operands, path: node.path)
}

/// A cast to a type that has every value of the operand's type changes no value: what reads it casts the operand.
private func canonical(
  _ operation: Cast, _ node: Node, _ input: Value, _ rewriter: inout GraphRewriter
) throws(GraphError) -> [Value]? {
  if rewriter.type(of: input).dtype == operation.dtype { return [input] }
  guard case .cast(let inner) = rewriter.node(of: input).operation else { return nil }
  let source = rewriter.node(of: input).inputs[0]
  guard inner.dtype.hasAllValues(of: rewriter.type(of: source).dtype) else { return nil }
  if rewriter.type(of: source).dtype == operation.dtype { return [source] }
  return try rewriter.append(node.operation, [source], path: node.path)
}

private func canonicalView(
  _ node: Node, _ input: Value, _ rewriter: inout GraphRewriter
) throws(GraphError) -> [Value]? {
  let type = node.types[0]
  if rewriter.type(of: input) == type { return [input] }
  if let number = rewriter.splat(input) {
    return try rewriter.append(.constant(Constant(type: type, values: [number])), [], path: node.path)
  }
  let producer = rewriter.node(of: input)
  switch (node.operation, producer.operation) {
  case (.reshape, .reshape), (.broadcast, .broadcast):
    if let merged = try canonicalView(node, producer.inputs[0], &rewriter) { return merged }
    return try rewriter.append(node.operation, producer.inputs, path: node.path)
  default: return nil
  }
}

private func canonical(
  _ operation: Transpose, _ node: Node, _ input: Value, _ rewriter: inout GraphRewriter
) throws(GraphError) -> [Value]? {
  if operation.permutation == Array(operation.permutation.indices) { return [input] }
  guard case .transpose(let inner) = rewriter.node(of: input).operation else { return nil }
  let merged = Transpose(permutation: operation.permutation.map { inner.permutation[$0] })
  let source = rewriter.node(of: input).inputs[0]
  if merged.permutation == Array(merged.permutation.indices) { return [source] }
  return try rewriter.append(.transpose(merged), [source], path: node.path)
}

private func canonical(
  _ operation: Reduce, _ node: Node, _ input: Value, _ rewriter: inout GraphRewriter
) throws(GraphError) -> [Value]? {
  let extents = operation.extents(of: rewriter.type(of: input).shape)
  if extents.reduced == 1 {
    return try rewriter.append(.reshape(Reshape(shape: node.types[0].shape)), [input], path: node.path)
  }
  guard operation.kind == .sum, let number = rewriter.splat(input) else { return nil }
  return try rewriter.append(
    .constant(Constant(type: node.types[0], values: [number * Double(extents.reduced)])), [], path: node.path)
}

/// A transposed matrix is read transposed.
private func canonical(
  _ operation: MatMul, _ node: Node, _ inputs: [Value], _ rewriter: inout GraphRewriter
) throws(GraphError) -> [Value]? {
  var (merged, operands) = (operation, inputs)
  if case .transpose = rewriter.node(of: inputs[0]).operation {
    operands[0] = rewriter.node(of: inputs[0]).inputs[0]
    merged.transposeA.toggle()
  }
  if case .transpose = rewriter.node(of: inputs[1]).operation {
    operands[1] = rewriter.node(of: inputs[1]).inputs[0]
    merged.transposeB.toggle()
  }
  return operands == inputs ? nil : try rewriter.append(.matMul(merged), operands, path: node.path)
}
