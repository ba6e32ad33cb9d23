import Foundation
import KeelCore

/// Runs a graph on the host in double precision, one element after the other: the reference that every kernel and
/// every pass is held against. Operations with a definition run as it says; the primitives are defined here.
public struct Interpreter {
  /// What a run gave: outputs by name, and the new values of the variables that the graph updates.
  public struct Result {
    public var outputs: [String: [Double]] = [:]
    public var variables: [String: [Double]] = [:]
  }

  private let graph: Graph

  /// Throws what the verifier says of the graph.
  public init(_ graph: Graph) throws(GraphError) {
    self.graph = try Pass.decompose.run(graph.verified()).verified()
  }

  /// - Parameter inputs: row-major elements for each named input. Throws when one is missing or has the wrong count.
  public func run(_ inputs: [String: [Double]]) throws(GraphError) -> Result {
    var values: [Value: [Double]] = [:]
    for (index, node) in graph.nodes.enumerated() {
      let operands = node.inputs.map { Operand(values: values[$0] ?? [], shape: graph.type(of: $0).shape) }
      for (output, result) in try evaluate(node, operands, inputs).enumerated() {
        values[Value(node: index, output: output)] = result
      }
    }
    var result = Result()
    for output in graph.outputs { result.outputs[output.name] = values[output.value] }
    for update in graph.updates {
      guard case .input(let input) = graph.nodes[update.variable.node].operation else { continue }
      result.variables[input.label] = values[update.value]
    }
    return result
  }

  private struct Operand {
    var values: [Double]
    var shape: Shape
  }

  private func evaluate(
    _ node: Node, _ operands: [Operand], _ inputs: [String: [Double]]
  ) throws(GraphError) -> [[Double]] {
    let shape = node.types.first?.shape ?? .scalar
    switch node.operation {
    case .input(let input):
      guard let values = inputs[input.label], values.count == input.type.count else {
        throw GraphError(
          "interpreter", "\(input.label) expects \(input.type.count) values, got \(inputs[input.label]?.count ?? 0)")
      }
      return [values]
    case .constant(let constant):
      return [constant.splat.map { [Double](repeating: $0, count: shape.count) } ?? constant.values]
    case .elementwise(let operation):
      let stretched = operands.map { stretch($0, to: shape) }
      let host = operation.function.row.host
      return [(0..<shape.count).map { index in host(stretched.map { $0[index] }) }]
    case .cast, .reshape:
      return [operands[0].values]
    case .broadcast:
      return [stretch(operands[0], to: shape)]
    case .transpose(let operation):
      let source = operands[0].shape.strides
      let strides = operation.permutation.map { source[$0] }
      return [gatherStrided(operands[0].values, shape: shape, strides: strides)]
    case .reduce(let operation):
      return [reduce(operation, operands[0])]
    case .matMul(let operation):
      return [matMul(operation, operands[0], operands[1])]
    case .gather(let operation):
      return [gather(operation, operands)]
    case .optimizerStep(let operation):
      return optimizerStep(operation, operands.map(\.values))
    case .record(let operation):
      return record(operation, operands)
    case .fused, .matMulUpdate, .matMulBatchNorm, .affineProductGradient, .batchNormTraining, .batchNormBackward,
      .batchNormRunningUpdate, .softmaxCrossEntropy, .softmaxCrossEntropyBackward, .softmaxCrossEntropyWithGradient,
      .topOne:
      throw GraphError(node.operation.rules.name, path: node.path, "runs as its definition says, which is missing")
    }
  }

  private func stretch(_ operand: Operand, to shape: Shape) -> [Double] {
    if operand.shape == shape { return operand.values }
    let extra = shape.rank - operand.shape.rank
    let source = operand.shape.strides
    let strides = (0..<shape.rank).map { $0 < extra || operand.shape[$0 - extra] == 1 ? 0 : source[$0 - extra] }
    return gatherStrided(operand.values, shape: shape, strides: strides)
  }

  private func gatherStrided(_ values: [Double], shape: Shape, strides: [Int]) -> [Double] {
    let own = shape.strides
    return (0..<shape.count).map { index in
      var offset = 0
      for axis in 0..<shape.rank { offset += index / own[axis] % shape[axis] * strides[axis] }
      return values[offset]
    }
  }

  private func reduce(_ operation: Reduce, _ operand: Operand) -> [Double] {
    let (outer, reduced, inner) = operation.extents(of: operand.shape)
    return (0..<outer * inner).map { index in
      let start = index / inner * reduced * inner + index % inner
      let elements = (0..<reduced).lazy.map { operand.values[start + $0 * inner] }
      switch operation.kind {
      case .sum: return sum(elements)
      case .max: return elements.reduce(-.infinity) { $0 > $1 || $0.isNaN ? $0 : $1 }
      }
    }
  }

  /// Neumaier 1974: what each addition loses is kept, so that the length of a sum does not show in its digits.
  private func sum(_ elements: some Sequence<Double>) -> Double {
    var total = 0.0
    var lost = 0.0
    for element in elements {
      let next = total + element
      lost += abs(total) >= abs(element) ? (total - next) + element : (element - next) + total
      total = next
    }
    // What is lost of an infinity is no number.
    return total.isFinite ? total + lost : total
  }

  private func matMul(_ operation: MatMul, _ a: Operand, _ b: Operand) -> [Double] {
    let (m, n, k) = operation.extents(a.shape, b.shape)
    let (aRow, aColumn) = operation.transposeA ? (1, m) : (k, 1)
    let (bRow, bColumn) = operation.transposeB ? (1, k) : (n, 1)
    var product = [Double](repeating: 0, count: m * n)
    for row in 0..<m {
      for inner in 0..<k {
        let factor = a.values[row * aRow + inner * aColumn]
        for column in 0..<n { product[row * n + column] += factor * b.values[inner * bRow + column * bColumn] }
      }
    }
    return product
  }

  /// An i32 as it would be on a device, whatever stands in its place.
  private func position(_ value: Double) -> Int {
    value.isNaN ? 0 : Int(min(max(value, Double(Int32.min)), Double(Int32.max)))
  }

  private func gather(_ operation: Gather, _ operands: [Operand]) -> [Double] {
    let (data, order, cursor) = (operands[0], operands[1].values, operands[2].values)
    let width = data.values.count / data.shape[0]
    return (0..<operation.rows).flatMap { row -> [Double] in
      let place = min(max(position(cursor[Cursor.sample]), 0) + row, order.count - 1)
      let source = min(max(position(order[place]), 0), data.shape[0] - 1)
      return data.values[source * width..<(source + 1) * width].map { $0 * operation.scale }
    }
  }

  private func record(_ operation: Record, _ operands: [Operand]) -> [[Double]] {
    var (history, cursor) = (operands[0].values, operands[1].values)
    let columns = operands[0].shape[1]
    let row = position(cursor[Cursor.stepInEpoch])
    if row >= 0, row < operands[0].shape[0] {
      for (column, value) in operands.dropFirst(2).enumerated() { history[row * columns + column] = value.values[0] }
    }
    let isFinite = operands[2].values[0].isFinite
    if isFinite || operation.nonFinite != .hold {
      cursor[Cursor.sample] += Double(operation.rows)
      cursor[Cursor.stepInEpoch] += 1
    }
    if isFinite || operation.nonFinite == .advance { cursor[Cursor.step] += 1 }
    return [history, cursor]
  }

  private func optimizerStep(_ operation: OptimizerStep, _ operands: [[Double]]) -> [[Double]] {
    let t = operands[1][Cursor.step] + 1
    let rate = operands[0][min(max(position(operands[1][Cursor.stepInEpoch]), 0), operands[0].count - 1)]
    var parameters = operation.parameters.map { operands[$0] }
    let gradients = operation.gradients.map { operands[$0] }
    var slots = operation.rule.slots.indices.map { slot in operation.slot(slot).map { operands[$0] } }
    if let asked = operation.guardPosition, !operands[asked][0].isFinite { return parameters + slots.flatMap { $0 } }
    for tensor in parameters.indices {
      for i in parameters[tensor].indices {
        switch operation.rule {
        case .sgd(let momentum, let nesterov, let weightDecay):
          let g = gradients[tensor][i] + weightDecay * parameters[tensor][i]
          var change = g
          if momentum != 0 {
            slots[0][tensor][i] = momentum * slots[0][tensor][i] + g
            change = nesterov ? g + momentum * slots[0][tensor][i] : slots[0][tensor][i]
          }
          parameters[tensor][i] -= rate * change
        case .adam(let beta1, let beta2, let epsilon, let weightDecay):
          let g = gradients[tensor][i] + weightDecay * parameters[tensor][i]
          slots[0][tensor][i] = beta1 * slots[0][tensor][i] + (1 - beta1) * g
          slots[1][tensor][i] = beta2 * slots[1][tensor][i] + (1 - beta2) * g * g
          let mean = slots[0][tensor][i] / (1 - pow(beta1, t))
          let variance = slots[1][tensor][i] / (1 - pow(beta2, t))
          parameters[tensor][i] -= rate * mean / (variance.squareRoot() + epsilon)
        }
      }
    }
    return parameters + slots.flatMap { $0 }
  }
}
