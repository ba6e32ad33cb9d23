import KeelCore

extension Pass {
  /// Moves the expression that makes a batch norm's dy into its backward kernels.
  public static let fusePrologue = Pass("fusePrologue") { graph throws(GraphError) in
    var graph = graph
    let (readers, results) = (graph.readers(), graph.results)
    for (index, node) in graph.nodes.enumerated() {
      guard case .batchNormBackward(var operation) = node.operation, operation.prologue == nil else { continue }
      let dy = node.inputs[0]
      let producer = graph.nodes[dy.node]
      guard let expression = producer.expression(in: graph), readers[dy] == [index], !results.contains(dy) else {
        continue
      }
      let types = producer.inputs.map { graph.type(of: $0) }
      guard types.allSatisfy({ $0 == node.types[0] || $0.count == 1 }),
        let primary = types.firstIndex(of: node.types[0])
      else { continue }
      let others = producer.inputs.indices.filter { $0 != primary }
      var names = [Int](repeating: 0, count: producer.inputs.count)
      for (position, other) in others.enumerated() { names[other] = position + 1 }
      operation.prologue = expression.renamingInputs(names, count: producer.inputs.count)
      graph.nodes[index].operation = .batchNormBackward(operation)
      graph.nodes[index].inputs =
        [producer.inputs[primary]] + node.inputs.dropFirst() + others.map { producer.inputs[$0] }
    }
    return graph
  }
}
