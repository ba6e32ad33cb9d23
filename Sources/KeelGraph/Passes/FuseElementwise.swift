import KeelCore

/// A kernel's argument list stays of readable length, and within what every device takes.
private let mostOperands = 12

extension Pass {
  /// Joins an elementwise node with the elementwise nodes that only it reads and that have its shape, and writes
  /// constants into the expression. A smaller operand stays a node of its own, so that it is computed once.
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
      guard case .elementwise(let operation) = node.operation, node.types[0].dtype.isFloatingPoint else { return nil }
      var (expression, operands) = merged(Expression(operation.function), inputs)

      var position = 0
      while position < operands.count {
        let operand = operands[position]
        if let inner = expressions[operand], single.contains(operand),
          rewriter.type(of: operand).shape == node.types[0].shape,
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
          try broadcastShape(rest.map { rewriter.type(of: $0) }, "fuse") == node.types[0].shape
        {
          (expression, operands) = (expression.binding(position, to: number), rest)
        } else {
          position += 1
        }
      }

      let plain = expression == Expression(operation.function)
      let value = try rewriter.append(
        plain ? node.operation : .fused(FusedElementwise(expression)), operands, path: node.path)[0]
      expressions[value] = (expression, operands)
      if Set(readers[old] ?? []).count == 1, !results.contains(old) { single.insert(value) }
      return [value]
    }
  }
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
