import KeelCore
import KeelGraph
import KeelNN

/// The variables of a data set on the device, under a common prefix. No property path begins with one that has a slash,
/// so these are never the names of parameters.
struct DataNames: Hashable {
  let prefix: String
  /// Whether it is the second of two windows, which take turns: features and targets are its own.
  var isSecond = false

  var features: String { prefix + (isSecond ? ".features.second" : ".features") }
  var targets: String { prefix + (isSecond ? ".targets.second" : ".targets") }
  var order: String { prefix + ".order" }
  var cursor: String { prefix + ".cursor" }
  /// A row a step: mean loss, number of samples classified right.
  var history: String { prefix + ".history" }

  var second: DataNames { DataNames(prefix: prefix, isSecond: true) }

  static let train = DataNames(prefix: "data/train")
  static let evaluation = DataNames(prefix: "data/evaluation")
  static let prediction = DataNames(prefix: "data/prediction")
  /// The batch that is shorter than the others.
  static let lastPrediction = DataNames(prefix: "data/lastPrediction")
  static let learningRates = "data/train.learningRates"
}

extension Parameter {
  /// The variable of one of its optimizer slots, as `optimizer/momentum/layers.0.weight`.
  func slotName(_ slot: String) -> String { "optimizer/\(slot)/\(path)" }
}

/// What a step's graph is traced for.
struct StepShape: Hashable {
  var names = DataNames.train
  /// Samples of the batch.
  var rows: Int
  var features: TensorType
  var targets: TensorType
  /// Multiplies stored features.
  var scale: Double
  /// Steps of an epoch: rows of the history.
  var steps: Int
}

extension Model {
  /// One step of training: gather, forward, loss, backward, optimizer, record. Where the loss is not finite, no variable
  /// of the model or the optimizer changes.
  func trainingGraph(
    _ shape: StepShape, loss: Loss, rule: UpdateRule, dtype: DType, onNonFiniteLoss: NonFinitePolicy
  ) throws(GraphError) -> Graph {
    let builder = GraphBuilder(name: "train.\(shape.rows)", mode: .training, dtype: dtype)
    let names = shape.names
    let cursor = builder.input(names.cursor, Cursor.type, role: .control)
    let (outputs, targets) = batch(shape, cursor, builder)
    let losses = loss(outputs, targets)
    let mean = losses.mean()

    let parameters = trainableParameters.map { $0.tensor(in: builder) }
    let gradients = builder.gradients(of: mean, withRespectTo: parameters)
    builder.scope(at: "optimizer") {
      let slots = rule.slots.map { slot in
        zip(trainableParameters, parameters).map { parameter, tensor in
          builder.input(parameter.slotName(slot), tensor.type, role: .optimizerSlot)
        }
      }
      let rates = builder.input(DataNames.learningRates, TensorType([shape.steps], dtype), role: .control)
      let step = OptimizerStep(rule, count: parameters.count)
      let moved = builder.append(.optimizerStep(step), [rates, cursor] + parameters + gradients + slots.flatMap { $0 })
      for (old, new) in zip(parameters + slots.flatMap { $0 }, moved) { builder.update(old, with: new) }
    }
    builder.guardUpdates(by: mean)
    record(
      mean, loss.hits(outputs, targets), shape, cursor, nonFinite: onNonFiniteLoss == .stop ? .hold : .skip)
    builder.output("loss", mean)
    return try builder.graph()
  }

  /// One batch of evaluation: gather, forward, loss, record.
  func evaluationGraph(_ shape: StepShape, loss: Loss, dtype: DType) throws(GraphError) -> Graph {
    let builder = GraphBuilder(name: "evaluate.\(shape.rows)", mode: .evaluation, dtype: dtype)
    let names = shape.names
    let cursor = builder.input(names.cursor, Cursor.type, role: .control)
    let (outputs, targets) = batch(shape, cursor, builder)
    record(loss(outputs, targets).mean(), loss.hits(outputs, targets), shape, cursor, nonFinite: .advance)
    return try builder.graph()
  }

  /// One batch of prediction, whose features are the whole of the variable.
  func predictionGraph(
    _ features: TensorType, _ names: DataNames, scale: Double, dtype: DType
  ) throws(GraphError) -> Graph {
    let builder = GraphBuilder(name: "predict.\(features.shape[0])", mode: .evaluation, dtype: dtype)
    let x = builder.append(
      .gather(Gather(rows: features.shape[0], dtype: dtype, scale: scale)),
      [
        builder.input(names.features, features),
        builder.input(names.order, TensorType([features.shape[0]], .int32), role: .control),
        builder.input(names.cursor, Cursor.type, role: .control),
      ])[0]
    builder.output("outputs", self(x))
    return try builder.graph()
  }

  /// What the network gives for a batch, in evaluation mode. Throws where a shape does not fit.
  func outputType(for batch: Shape, dtype: DType) throws(GraphError) -> TensorType {
    let builder = GraphBuilder(name: "outputs", mode: .evaluation, dtype: dtype)
    let outputs = self(builder.input("x", TensorType(batch, dtype)))
    _ = try builder.graph()
    return outputs.type
  }

  /// The network's outputs for the batch at the cursor, and its targets.
  private func batch(
    _ shape: StepShape, _ cursor: Tensor, _ builder: GraphBuilder
  ) -> (outputs: Tensor, targets: Tensor) {
    let names = shape.names
    let count = shape.features.shape[0]
    let order = builder.input(names.order, TensorType([count], .int32), role: .control)
    let (x, targets) = builder.scope(at: "data") {
      let targetType: DType = shape.targets.dtype == .int32 ? .int32 : builder.dtype
      return (
        builder.append(
          .gather(Gather(rows: shape.rows, dtype: builder.dtype, scale: shape.scale)),
          [builder.input(names.features, shape.features), order, cursor])[0],
        builder.append(
          .gather(Gather(rows: shape.rows, dtype: targetType)),
          [builder.input(names.targets, shape.targets), order, cursor])[0]
      )
    }
    return (self(x), targets)
  }

  /// Writes the step's figures into the history and moves the cursor on.
  private func record(
    _ mean: Tensor, _ hits: Tensor?, _ shape: StepShape, _ cursor: Tensor, nonFinite: NonFiniteStep
  ) {
    let (builder, names) = (mean.builder, shape.names)
    builder.scope(at: "record") {
      let history = builder.input(names.history, TensorType([shape.steps, 2], builder.dtype), role: .control)
      let figures = [mean, hits?.sum() ?? builder.constant(0)]
      let recorded = builder.append(
        .record(Record(rows: shape.rows, nonFinite: nonFinite)), [history, cursor] + figures)
      builder.update(history, with: recorded[0])
      builder.update(cursor, with: recorded[1])
    }
  }
}
