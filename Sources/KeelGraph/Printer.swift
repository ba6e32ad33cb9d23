import KeelCore

extension Graph: CustomStringConvertible {
  /// The graph as text: a line a node, then updates and outputs.
  ///
  ///     %2 = matMul(%1, %0) : f32[32, 10]  // layers.4
  public var description: String {
    var lines = ["graph \(name) {"]
    for (index, node) in nodes.enumerated() { lines.append("  " + line(index, node)) }
    for update in updates {
      lines.append("  update \(label(of: update.variable)) <- \(reference(update.value))")
    }
    for output in outputs { lines.append("  output \(output.name) = \(reference(output.value))") }
    return (lines + ["}"]).joined(separator: "\n")
  }

  private func line(_ index: Int, _ node: Node) -> String {
    let rules = node.operation.rules
    let results = node.types.count == 1 ? "%\(index)" : "%\(index):\(node.types.count)"
    let attributes = rules.attributes.isEmpty ? "" : "{\(rules.attributes)}"
    let operands = node.inputs.isEmpty ? "" : "(" + node.inputs.map(reference).joined(separator: ", ") + ")"
    let types = node.types.map(\.description).joined(separator: ", ")
    return "\(results) = \(rules.name)\(attributes)\(operands) : \(types)"
      + (node.path.isEmpty ? "" : "  // \(node.path)")
  }

  private func reference(_ value: Value) -> String {
    nodes[value.node].types.count == 1 ? "%\(value.node)" : "%\(value.node).\(value.output)"
  }

  private func label(of value: Value) -> String {
    if case .input(let input) = nodes[value.node].operation { return "\"\(input.name)\"" }
    return reference(value)
  }
}
