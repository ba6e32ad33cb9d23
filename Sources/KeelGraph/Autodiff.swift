import KeelCore

extension GraphBuilder {
  /// Reverse-mode differentiation: appends nodes for the gradient of a scalar, and gives it for each of `targets`.
  /// A target that the scalar does not depend on gets zeros.
  public func gradients(of loss: Tensor, withRespectTo targets: [Tensor]) -> [Tensor] {
    guard error == nil, ownsAll([loss] + targets, "gradients") else { return targets }
    guard loss.shape.count == 1, loss.dtype.isFloatingPoint else {
      record(GraphError("gradients", path: path, "expects a scalar to differentiate, got \(loss.type)"))
      return targets
    }
    var cotangents = [loss.value: constant(1, loss.shape, loss.dtype)]
    propagate(&cotangents, through: 0..<nodes.count, towards: Set(targets.map(\.value)))
    return targets.map { cotangents[$0.value] ?? constant(0, $0.shape, $0.dtype) }
  }

  /// Walks the nodes of `range` backwards and hands the cotangents of results on to operands. Only operands on a way
  /// to a target get one.
  private func propagate(
    _ cotangents: inout [Value: Tensor], through range: Range<Int>, towards targets: Set<Value>
  ) {
    var needed = targets
    for index in range {
      if nodes[index].inputs.contains(where: needed.contains) {
        for output in nodes[index].types.indices { needed.insert(Value(node: index, output: output)) }
      }
    }
    for index in range.reversed() {
      let node = nodes[index]
      let outputs = results(of: index)
      let arrived = outputs.map { cotangents[$0.value] }
      guard arrived.contains(where: { $0 != nil }), node.inputs.contains(where: needed.contains) else { continue }
      let inputs = node.inputs.map { tensor($0) }
      let gradients = scope(at: node.path.isEmpty ? "gradient" : node.path + ".gradient") { () -> [Tensor?] in
        let context = GradientContext(inputs: inputs, outputs: outputs, cotangents: arrived)
        return node.operation.rules.gradient(context) ?? gradientsOfDefinition(node, context)
      }
      guard error == nil else { return }
      for (input, gradient) in zip(node.inputs, gradients) where needed.contains(input) {
        guard let gradient else { continue }
        cotangents[input] = cotangents[input].map { $0 + gradient } ?? gradient
      }
    }
  }

  /// An operation without a rule of its own: its definition is traced and differentiated in its place.
  private func gradientsOfDefinition(_ node: Node, _ context: GradientContext) -> [Tensor?] {
    let start = nodes.count
    guard let outputs = node.operation.rules.definition(context.inputs) else {
      record(GraphError(node.operation.rules.name, path: node.path, "has no gradient"))
      return context.inputs.map { _ in nil }
    }
    guard error == nil else { return context.inputs.map { _ in nil } }
    var cotangents: [Value: Tensor] = [:]
    for (output, cotangent) in zip(outputs, context.cotangents) {
      if let cotangent { cotangents[output.value] = cotangents[output.value].map { $0 + cotangent } ?? cotangent }
    }
    propagate(&cotangents, through: start..<nodes.count, towards: Set(context.inputs.map(\.value)))
    // An operand that stands there twice gets its whole cotangent once.
    return context.inputs.map { cotangents.removeValue(forKey: $0.value) }
  }
}
