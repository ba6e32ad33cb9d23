import KeelCore

/// A kernel's argument list stays of readable length, and within what every device takes.
private let mostOperands = 12

extension Pass {
  /// Joins an elementwise node with the elementwise nodes that only it reads and that have its shape, and writes
  /// constants into the expression. A smaller operand stays a node of its own, so that it is computed once.
  ///
  /// An operand that is cast from a type of storage is loaded from there, and an expression that only a cast to such a
  /// type reads stores its result there: neither is a launch. What is stored is rounded, and no expression goes past it.
  public static let fuseElementwise = Pass("fuseElementwise") { graph throws(GraphError) in
    let readers = graph.readers()
    let results = graph.results
    // Values of the new graph that one node alone reads, and expressions of its elementwise nodes.
    var single: Set<Value> = []
    var expressions: [Value: (expression: Expression, inputs: [Value])] = [:]
    var index = -1
    return try GraphRewriter.rewrite(graph) { rewriter, node, inputs throws(GraphError) in
      index += 1
      let old = Value(node: index)
      let type = node.types[0]
      if case .cast = node.operation, type.dtype.isStorageOnly, single.contains(inputs[0]),
        rewriter.type(of: inputs[0]).dtype == type.dtype.arithmetic, let inner = expressions[inputs[0]]
      {
        let fused = FusedElementwise(inner.expression, to: type.dtype)
        return try rewriter.append(.fused(fused), inner.inputs, path: node.path)
      }
      guard case .elementwise(let operation) = node.operation, type.dtype.isFloatingPoint else { return nil }
      var (expression, operands) = merged(
        Expression(operation.function), inputs.map { widened($0, to: type.dtype, rewriter) })

      var position = 0
      while position < operands.count {
        let operand = operands[position]
        if let inner = expressions[operand], single.contains(operand),
          rewriter.type(of: operand) == type,
          operands.count - 1 + inner.inputs.count <= mostOperands
        {
          let outer = operands[..<position] + operands[(position + 1)...]
          (expression, operands) = merged(
            expression.substituting(inner.expression, for: position), outer + inner.inputs)
          position = 0
        } else {
          position += 1
        }
      }

      position = 0
      while position < operands.count {
        let rest = Array(operands[..<position] + operands[(position + 1)...])
        if let number = rewriter.splat(operands[position]), !rest.isEmpty,
          try broadcastShape(rest.map { rewriter.type(of: $0) }, "fuse") == type.shape
        {
          (expression, operands) = (expression.binding(position, to: number), rest)
        } else {
          position += 1
        }
      }

      let isUniform = operands.allSatisfy { rewriter.type(of: $0).dtype == type.dtype }
      let fused = FusedElementwise(expression, to: isUniform ? nil : type.dtype)
      let isPlain = isUniform && expression == Expression(operation.function)
      let value = try rewriter.append(isPlain ? node.operation : .fused(fused), operands, path: node.path)[0]
      expressions[value] = (expression, operands)
      if Set(readers[old] ?? []).count == 1, !results.contains(old) { single.insert(value) }
      return [value]
    }
  }
}

/// What is cast to `value`, where that is of `dtype` and every value of the operand's type is one of it.
private func widened(_ value: Value, to dtype: DType, _ rewriter: GraphRewriter) -> Value {
  let node = rewriter.node(of: value)
  guard case .cast = node.operation else { return value }
  let source = rewriter.type(of: node.inputs[0]).dtype
  return source.isStorageOnly && source.arithmetic == dtype ? node.inputs[0] : value
}

/// The same expression with each operand named once.
private func merged(_ expression: Expression, _ operands: some Sequence<Value>) -> (Expression, [Value]) {
  var distinct: [Value] = []
  let names = operands.map { operand -> Int in
    if let known = distinct.firstIndex(of: operand) { return known }
    distinct.append(operand)
    return distinct.count - 1
  }
  return (expression.renamingInputs(names, count: distinct.count), distinct)
}
