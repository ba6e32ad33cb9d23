extension Pass {
  /// Computes a softmax cross-entropy and its gradient at once, where the gradient's upstream does not follow from the
  /// losses: the exponentials and their sums are those of one kernel. A top one of the same logits and labels is part of
  /// it, unless the upstream follows from that.
  public static let softmaxWithGradient = Pass("softmaxWithGradient") { graph throws(GraphError) in
    var graph = graph
    var changed = false
    for backward in graph.nodes.indices {
      guard case .softmaxCrossEntropyBackward = graph.nodes[backward].operation else { continue }
      let operands = graph.nodes[backward].inputs
      let readers = graph.readers()
      // Of those that are read; what has been replaced is not.
      func other(_ operation: Operation) -> Int? {
        graph.nodes.indices.first { index in
          graph.nodes[index].operation == operation && graph.nodes[index].inputs == Array(operands[1...])
            && (readers[Value(node: index)] != nil || graph.results.contains(Value(node: index)))
            && !graph.depends(operands[0].node, on: index)
        }
      }
      guard let forward = other(.softmaxCrossEntropy(SoftmaxCrossEntropy())) else { continue }
      let topOne = other(.topOne(TopOne()))
      let merged = graph.nodes.count
      let operation = SoftmaxCrossEntropyWithGradient(hasTopOne: topOne != nil)
      let nodes = [forward, backward] + (topOne.map { [$0] } ?? [])
      graph.nodes.append(
        Node(
          operation: .softmaxCrossEntropyWithGradient(operation), inputs: operands,
          types: nodes.map { graph.nodes[$0].types[0] }, path: graph.nodes[forward].path))
      for (output, node) in nodes.enumerated() {
        graph.replace([Value(node: node): Value(node: merged, output: output)], in: 0..<merged)
      }
      changed = true
    }
    return changed ? try Pass.deadCode.run(graph.sorted()) : graph
  }
}
