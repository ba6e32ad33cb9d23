extension Graph {
  /// The value whose bytes `value` shows: reshapes seen through.
  func storage(of value: Value) -> Value {
    var value = value
    while case .reshape = nodes[value.node].operation { value = nodes[value.node].inputs[0] }
    return value
  }

  fileprivate mutating func appendCopy(of value: Value) -> Value {
    nodes.append(
      Node(operation: .elementwise(Elementwise(.copy)), inputs: [value], types: [type(of: value)], path: ""))
    return Value(node: nodes.count - 1)
  }
}

extension Pass {
  /// Gives a buffer of its own to each gradient that an optimizer reads (they lie in the order of their parameters)
  /// and to each update's value, by a copy where the value is an input, a constant, or serves twice. An output that shows
  /// a variable which the run changes is a copy of what it was.
  public static let materialize = Pass("materialize") { graph throws(GraphError) in
    var taken: Set<Value> = []
    var copies: Set<Value> = []
    func needsCopy(_ value: Value) -> Bool {
      let storage = graph.storage(of: value)
      switch graph.nodes[storage.node].operation {
      case .input, .constant: return true
      default: return !taken.insert(storage).inserted
      }
    }
    // A gradient that needs a copy is named by its place: (optimizer node, operand).
    for (index, node) in graph.nodes.enumerated() {
      guard case .optimizerStep(let step) = node.operation else { continue }
      for operand in step.gradients where needsCopy(node.inputs[operand]) {
        copies.insert(Value(node: index, output: operand))
      }
    }
    var index = -1
    var result = try GraphRewriter.rewrite(graph) { rewriter, node, inputs throws(GraphError) in
      index += 1
      guard case .optimizerStep(let step) = node.operation else { return nil }
      var operands = inputs
      for operand in step.gradients where copies.contains(Value(node: index, output: operand)) {
        operands[operand] = try rewriter.append(.elementwise(Elementwise(.copy)), [operands[operand]], path: node.path)[
          0]
      }
      return try rewriter.append(node.operation, operands, path: node.path)
    }
    let variables = Set(graph.updates.map(\.variable))
    for (position, output) in graph.outputs.enumerated() where variables.contains(graph.storage(of: output.value)) {
      result.outputs[position].value = result.appendCopy(of: result.outputs[position].value)
    }
    for (position, update) in graph.updates.enumerated() where needsCopy(update.value) {
      result.updates[position].value = result.appendCopy(of: result.updates[position].value)
    }
    return result
  }
}
