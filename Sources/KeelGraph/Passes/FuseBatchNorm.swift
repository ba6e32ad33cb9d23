/// A work-item holds so many rows of its columns in its cache.
private let mostRows = 256

extension Pass {
  /// Makes one operation of a product of matrices and the batch norm of its columns, which on a CPU is one launch: who
  /// computes whole columns has their statistics without asking anybody.
  ///
  /// Applied to batches of ``mostRows`` rows at most. Not known to pay, so executables have it only where it is asked for.
  /// Where the lowering finds the one kernel unsuited, on GPUs always, the operation is the launches of its two parts.
  public static let fuseBatchNorm = Pass("fuseBatchNorm") { graph throws(GraphError) in
    var graph = graph
    let count = graph.nodes.count
    for index in 0..<count {
      let node = graph.nodes[index]
      guard case .batchNormTraining(let batchNorm) = node.operation, batchNorm.axis == 1, node.types[0].shape.rank == 2,
        node.types[0].shape[0] <= mostRows, case .matMul(let product) = graph.nodes[node.inputs[0].node].operation,
        !product.transposeB,
        node.inputs.dropFirst().allSatisfy({ !graph.depends($0.node, on: node.inputs[0].node) })
      else { continue }
      let (producer, path) = (graph.nodes[node.inputs[0].node], graph.nodes[node.inputs[0].node].path)
      let merged = graph.nodes.count
      var moved = [node.inputs[0]: Value(node: merged)]
      for output in node.types.indices {
        moved[Value(node: index, output: output)] = Value(node: merged, output: 1 + output)
      }
      graph.nodes.append(
        Node(
          operation: .matMulBatchNorm(MatMulBatchNorm(product, batchNorm)),
          inputs: producer.inputs + node.inputs.dropFirst(), types: producer.types + node.types, path: path))
      // A merged node may read what an earlier one makes.
      graph.replace(moved, in: 0..<merged)
    }
    return graph.nodes.count == count ? graph : try Pass.deadCode.run(graph.sorted())
  }
}
