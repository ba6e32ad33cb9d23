import KeelCore

extension Node {
  /// The node with `expression` in its epilogue, if it has a free one that can read operands of these types.
  fileprivate func taking(epilogue expression: Expression, _ operands: [TensorType]) -> Operation? {
    let full = types[0]
    switch operation {
    case .matMul(var matMul) where matMul.epilogue == nil:
      let (rows, columns) = (full.shape[0], full.shape[1])
      let readable: [Shape] = [full.shape, [columns], [1, columns], [rows, 1]]
      guard operands.allSatisfy({ $0.count == 1 || readable.contains($0.shape) }) else { return nil }
      matMul.epilogue = expression
      return .matMul(matMul)
    case .batchNormTraining(var batchNorm) where batchNorm.epilogue == nil:
      guard operands.allSatisfy({ $0.count == 1 || $0 == full }) else { return nil }
      batchNorm.epilogue = expression
      return .batchNormTraining(batchNorm)
    default: return nil
    }
  }
}

extension Pass {
  /// Moves an elementwise expression into the kernel that makes its operand, where nobody else reads that operand.
  public static let fuseEpilogue = Pass("fuseEpilogue") { graph throws(GraphError) in
    var graph = graph
    var index = 0
    while index < graph.nodes.count {
      if let fused = fusingEpilogue(of: index, graph) {
        graph = fused
        index = 0
      } else {
        index += 1
      }
    }
    return graph
  }
}

/// The graph with the elementwise node `index` absorbed by one of its producers, or nil where none can take it.
private func fusingEpilogue(of index: Int, _ graph: Graph) -> Graph? {
  let node = graph.nodes[index]
  guard let expression = node.expression(in: graph) else { return nil }
  let (readers, results) = (graph.readers(), graph.results)
  for (position, operand) in node.inputs.enumerated() {
    let producer = graph.nodes[operand.node]
    guard operand.output == 0, readers[operand] == [index], !results.contains(operand),
      producer.types[0] == node.types[0]
    else { continue }
    let others = node.inputs.indices.filter { $0 != position }
    guard others.allSatisfy({ !graph.depends(node.inputs[$0].node, on: operand.node) }) else { continue }
    var names = [Int](repeating: 0, count: node.inputs.count)
    for (place, other) in others.enumerated() { names[other] = place + 1 }
    let slot = expression.renamingInputs(names, count: node.inputs.count)
    guard let operation = producer.taking(epilogue: slot, others.map { graph.type(of: node.inputs[$0]) }) else {
      continue
    }

    // The producer takes the place of the expression; what read its other results reads them there.
    var fused = graph
    fused.nodes[index] = Node(
      operation: operation, inputs: producer.inputs + others.map { node.inputs[$0] }, types: producer.types,
      path: producer.path)
    for reader in fused.nodes.indices where reader != index {
      fused.nodes[reader].inputs = fused.nodes[reader].inputs.map {
        $0.node == operand.node ? Value(node: index, output: $0.output) : $0
      }
    }
    fused.outputs = fused.outputs.map {
      $0.value.node == operand.node
        ? Graph.Output(name: $0.name, value: Value(node: index, output: $0.value.output)) : $0
    }
    fused.updates = fused.updates.map {
      $0.value.node == operand.node
        ? Update(variable: $0.variable, value: Value(node: index, output: $0.value.output)) : $0
    }
    fused = fused.sorted()
    return try? Pass.deadCode.run(fused)
  }
  return nil
}
