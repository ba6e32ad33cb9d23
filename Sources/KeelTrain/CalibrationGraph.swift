import KeelCore
import KeelGraph
import KeelNN

/// A forward pass in training mode whose results are the batch's statistics at each batch norm.
struct CalibrationGraph {
  /// A batch norm that keeps running statistics.
  struct Norm {
    let mean: String
    let variance: String
    /// The count of batches.
    let batches: String
    let channels: Int
    /// Values a channel in the batch, m.
    let count: Double
    /// m/(m − 1) for a layer whose running variance is unbiased, else 1.
    let varianceFactor: Double

    var isUnbiased: Bool { varianceFactor != 1 }
    /// The layer's own path, of that of its mean.
    var path: String { mean.split(separator: ".").dropLast().joined(separator: ".") }

    enum Figure: String { case mean, residual, variance }
    func output(_ figure: Figure) -> String { "\(mean) \(figure.rawValue)" }
  }

  let graph: Graph
  let norms: [Norm]

  /// Traces the network on a batch, gathered at the cursor.
  ///
  /// Training moves running statistics by one operation, whose operands are the statistics of the batch. These become
  /// outputs, and what moves a statistic is dropped: layers need not know that they are being calibrated.
  init(_ model: Model, _ shape: StepShape, dtype: DType) throws(GraphError) {
    let (rows, names) = (shape.rows, shape.names)
    let builder = GraphBuilder(name: "calibrate.\(rows)", mode: .training, dtype: dtype)
    let cursor = builder.input(names.cursor, Cursor.type, role: .control)
    let order = builder.input(names.order, TensorType([shape.features.shape[0]], .int32), role: .control)
    let gather = Operation.gather(Gather(rows: rows, dtype: dtype, scale: shape.scale))
    _ = model(builder.append(gather, [builder.input(names.features, shape.features), order, cursor])[0])
    builder.scope(at: "advance") {
      builder.update(cursor, with: cursor + builder.constant([Double(rows), 1, 1], [3], .int32))
    }

    var graph = try builder.graph()
    graph.updates.removeAll { $0.variable != cursor.value }
    var norms: [Norm] = []
    for node in graph.nodes {
      guard case .batchNormRunningUpdate(let update) = node.operation,
        case .input(let mean) = graph.nodes[node.inputs[0].node].operation,
        case .input(let variance) = graph.nodes[node.inputs[1].node].operation,
        case .input(let batches) = graph.nodes[node.inputs[2].node].operation,
        // A layer of one's own may move statistics by other values: those of no batch of known size.
        case .batchNormTraining = graph.nodes[node.inputs[3].node].operation
      else { continue }
      let channels = node.types[0].count
      let values = graph.type(of: graph.nodes[node.inputs[3].node].inputs[0]).count
      let norm = Norm(
        mean: mean.label, variance: variance.label, batches: batches.label, channels: channels,
        count: Double(values / channels), varianceFactor: update.varianceFactor)
      for (figure, value) in zip([Norm.Figure.mean, .residual, .variance], node.inputs[3...]) {
        graph.outputs.append(Graph.Output(name: norm.output(figure), value: value))
      }
      norms.append(norm)
    }
    self.graph = try graph.verified()
    self.norms = norms
  }
}

extension DataNames {
  static let calibration = DataNames(prefix: "data/calibration")
}
