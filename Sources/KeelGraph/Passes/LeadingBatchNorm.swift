import KeelCore

/// From so many rows on a product over them costs more than two passes over a weight.
private let fewestRows = 8

extension Pass {
  /// Spares the input gradient of a product whose input gradient only a batch norm's γ and β ask for.
  ///
  /// With Z = y·W and y = γ⊙x̂ + β, dγ = Σₙ dy⊙x̂ and dβ = Σₙ dy of dy = dZ·Wᵀ follow from Q = x̂ᵀ·dZ and the sums of
  /// dZ, and so does dW: see ``AffineProductGradient``. The forward pass keeps x̂ beside y; the backward pass of the
  /// batch norm and one of three large products are gone.
  public static let leadingBatchNorm = Pass("leadingBatchNorm") { graph throws(GraphError) in
    var graph = graph
    var changed = false
    for index in graph.nodes.indices {
      guard let match = LeadingBatchNorm(index, in: graph) else { continue }
      graph = match.replaced(in: graph)
      changed = true
    }
    return changed ? try Pass.deadCode.run(graph.sorted()) : graph
  }
}

/// The nodes of one occurrence.
private struct LeadingBatchNorm {
  /// The batch norm, forward and backward.
  let forward: Int
  let backward: Int
  /// yᵀ·dZ.
  let weightGradient: Int
  let weight: Value
  let dz: Value

  init?(_ index: Int, in graph: Graph) {
    let (readers, results) = (graph.readers(), graph.results)
    func isUnread(_ value: Value) -> Bool { readers[value] == nil && !results.contains(value) }

    let node = graph.nodes[index]
    guard case .batchNormBackward(let operation) = node.operation, operation.prologue == nil, operation.axis == 1,
      node.types[0].shape.rank == 2, node.types[0].dtype == node.types[1].dtype, isUnread(Value(node: index)),
      node.types[0].shape[0] >= fewestRows
    else { return nil }

    let dy = node.inputs[0]
    guard case .matMul(let product) = graph.nodes[dy.node].operation,
      product == MatMul(transposeA: false, transposeB: true), readers[dy] == [index], !results.contains(dy)
    else { return nil }
    (dz, weight) = (graph.nodes[dy.node].inputs[0], graph.nodes[dy.node].inputs[1])

    forward = node.inputs[3].node
    guard case .batchNormTraining(let training) = graph.nodes[forward].operation, training.epilogue == nil,
      training.axis == operation.axis, training.epsilon == operation.epsilon,
      Array(graph.nodes[forward].inputs[..<2]) == Array(node.inputs[1...2])
    else { return nil }

    let operands = [Value(node: forward), dz]
    guard
      let gradient = readers[Value(node: forward)]?.first(where: {
        graph.nodes[$0].inputs == operands
          && graph.nodes[$0].operation == .matMul(MatMul(transposeA: true, transposeB: false))
      })
    else { return nil }
    weightGradient = gradient
    backward = index
  }

  /// The graph with dW, dγ and dβ from x̂, in an order that may need sorting.
  func replaced(in graph: Graph) -> Graph {
    var graph = graph
    let (normalized, product) = (Value(node: forward), Value(node: weightGradient))
    let (type, vector) = (graph.type(of: normalized), graph.nodes[backward].types[1])
    let (scale, shift) = (graph.nodes[forward].inputs[1], graph.nodes[forward].inputs[2])
    let path = graph.nodes[backward].path
    let last = graph.nodes.count

    func append(_ operation: Operation, _ inputs: [Value], _ types: [TensorType], _ path: String) -> Value {
      graph.nodes.append(Node(operation: operation, inputs: inputs, types: types, path: path))
      return Value(node: graph.nodes.count - 1)
    }
    let forwardPath = graph.nodes[forward].path
    let one = append(.constant(Constant(type: vector, values: [1])), [], [vector], forwardPath)
    let zero = append(.constant(Constant(type: vector, values: [0])), [], [vector], forwardPath)
    let scaled = append(.elementwise(Elementwise(.multiply)), [normalized, scale], [type], forwardPath)
    let y = append(.elementwise(Elementwise(.add)), [scaled, shift], [type], forwardPath)
    let sums = append(
      .reduce(Reduce(kind: .sum, axes: 0..<1)), [dz], [TensorType([graph.type(of: dz).shape[1]], type.dtype)], path)
    let gradients = append(
      .affineProductGradient(AffineProductGradient()), [product, weight, sums, scale, shift],
      [graph.type(of: product), vector, vector], path)

    graph.replace(
      [
        normalized: y, product: gradients, Value(node: backward, output: 1): Value(node: gradients.node, output: 1),
        Value(node: backward, output: 2): Value(node: gradients.node, output: 2),
      ], in: 0..<last)
    graph.nodes[weightGradient].inputs[0] = normalized
    graph.nodes[forward].inputs[1...2] = [one, zero]
    return graph
  }
}
