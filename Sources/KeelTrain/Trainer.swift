import Foundation
import KeelCL
import KeelCore
import KeelGraph
import KeelNN
import KeelPrimitives
import KeelRuntime

/// Trains, evaluates and uses a model on one device.
///
/// Between calls the values of the model's parameters and running statistics are those in ``Model``; a call takes them to
/// the device, and `fit` brings them back. The optimizer's state stays with the trainer.
public final class Trainer {
  /// The network, whose values between calls are the present ones.
  public let model: Model
  /// What training makes small.
  public let loss: Loss
  /// Its learning rate may change between calls to `fit`.
  public private(set) var optimizer: any Optimizer
  /// η of the optimizer, from the next call to `fit` on.
  public var learningRate: Double {
    get { optimizer.learningRate }
    set { optimizer.learningRate = newValue }
  }
  /// Steps taken so far.
  public private(set) var step = 0

  let context: ComputeContext
  let variables: VariableStore
  let dtype: DType
  let options: Executable.Options
  private var epochsSeen = 0
  private var executables: [ExecutableKey: Executable] = [:]
  /// Executables made so far.
  private(set) var compilations = 0
  private var isFitting = false

  private enum ExecutableKey: Hashable {
    /// Frozen variables have no update in the graph, so what is trained is part of the key.
    case train(StepShape, trained: [String])
    case evaluate(StepShape)
    /// Full batches and the short one have variables of their own.
    case predict(TensorType, scale: Double, isFull: Bool)

    /// The variables that the executable is bound to.
    var names: DataNames {
      switch self {
      case .train: .train
      case .evaluate: .evaluation
      case .predict(_, _, let isFull): isFull ? .prediction : .lastPrediction
      }
    }
  }

  /// Prepares a model for training: draws the values that it lacks, and makes room on the device.
  ///
  /// - Parameters:
  ///   - dtype: of parameters and activations, `.float32` or `.float64`.
  ///   - seed: of the first values.
  /// - Throws: settings out of range, or what the device says.
  public init(
    _ model: Model, loss: Loss, optimizer: any Optimizer, on device: Device, dtype: DType = .float32, seed: UInt64 = 0,
    options: Executable.Options = .environment
  ) throws {
    try optimizer.validate()
    guard dtype.isFloatingPoint else { throw TrainingError("expects a floating-point type, got \(dtype)") }
    try model.initialize(seed: seed, dtype: dtype)
    self.model = model
    self.loss = loss
    self.optimizer = optimizer
    self.dtype = dtype
    self.options = options
    context = try ComputeContext(device, profiling: options.debugLevel > 0)
    variables = VariableStore(context)

    let state =
      model.parameters.map { Variable($0.path, TensorType($0.shape, dtype), .parameter) }
      + model.runningStatistics.map { Variable($0.path, TensorType($0.shape, dtype), .runningStatistic) }
    let slots = optimizer.rule.slots.flatMap { slot in
      model.parameters.map { Variable($0.slotName(slot), TensorType($0.shape, dtype), .optimizerSlot) }
    }
    try variables.declare(state + slots)
  }

  /// The same for a layer, of which a model is made.
  public convenience init(
    _ layer: any Layer, loss: Loss, optimizer: any Optimizer, on device: Device, dtype: DType = .float32,
    seed: UInt64 = 0, options: Executable.Options = .environment
  ) throws {
    try self.init(
      Model(layer), loss: loss, optimizer: optimizer, on: device, dtype: dtype, seed: seed, options: options)
  }

  /// Trains for `epochs` passes over `data`.
  ///
  /// While it runs the values are the device's: `observe` may read those of the last epoch's end in ``model``, but what
  /// it writes there is lost, and other calls to the trainer throw.
  ///
  /// When the device fails in the middle of an epoch, the steps that it has taken are kept and counted in ``step``, as
  /// long as it still answers; else the model has the values of the last epoch's end.
  ///
  /// - Parameters:
  ///   - epochs: 0 or more.
  ///   - batchSize: samples of a step. The last, shorter batch of an epoch is a step too, unless `dropsLast`.
  ///   - validation: evaluated after each epoch.
  ///   - seed: of the order in which samples are seen.
  ///   - shuffles: false keeps the order of the data.
  ///   - observe: told of progress; returning false stops training after the steps at hand, and what was learnt is
  ///     kept.
  /// - Throws: bad sizes, a shape that does not fit a layer, outputs that do not fit the targets, or what the device
  ///   says; when it is called by its own `observe`.
  @discardableResult
  public func fit(
    _ data: Dataset, epochs: Int, batchSize: Int, validation: Dataset? = nil, seed: UInt64 = 0, shuffles: Bool = true,
    dropsLast: Bool = false, observe: (TrainingEvent) -> Bool = { _ in true }
  ) throws -> History {
    try checkIdle("fit")
    isFitting = true
    defer { isFitting = false }
    guard epochs >= 0 else { throw TrainingError("expects 0 or more epochs, got \(epochs)") }
    try optimizer.validate()
    let plan = try EpochPlan(data, batchSize: batchSize, dropsLast: dropsLast)
    try checkOutputs(for: data, rows: plan.batches[0])
    if let validation { try checkOutputs(for: validation, rows: min(Self.evaluationBatchSize, validation.count)) }
    let start = Date()
    try upload()
    try place(data, DataNames.train, steps: plan.steps)
    try variables.place(
      DataNames.learningRates,
      HostTensor(TensorType([plan.steps], dtype), values: Array(repeating: learningRate, count: plan.steps)), .control)
    let steps = try plan.batches.map { rows in
      do {
        return try trainingExecutable(StepShape(data, rows: rows, steps: plan.steps))
      } catch let error as GraphError where rows == 1 && batchSize > 1 && data.count > 1 {
        throw TrainingError(
          "the last batch of an epoch has 1 sample: \(error). \(Self.shortBatchAdvice)")
      }
    }
    // Drivers finish compiling a kernel when it is first enqueued: once here, so that no step waits for it.
    try variables.preservingState { for executable in steps { try executable.run() } }
    if let validation { try prepareEvaluation(validation, batchSize: Self.evaluationBatchSize) }
    var history = History()
    guard observe(.compiled(seconds: Date().timeIntervalSince(start))) else { return history }

    var continues = true
    for number in 1...max(epochs, 1) where epochs > 0 && continues {
      var epoch: History.Epoch
      do {
        epoch = try train(data, plan, steps, number, seed: seed, shuffles: shuffles) { done in
          continues = observe(.progress(epoch: number, step: done, steps: plan.steps)) && continues
          return continues
        }
        try download()
      } catch {
        try? takeOverInterrupted()
        throw error
      }
      if let validation, continues { epoch.validation = try evaluatePrepared(validation) }
      history.epochs.append(epoch)
      continues = observe(.epoch(epoch)) && continues
    }
    return history
  }

  /// One pass over the data. The host enqueues; it waits now and then, to report and so that the queue stays short.
  private func train(
    _ data: Dataset, _ plan: EpochPlan, _ executables: [Executable], _ number: Int, seed: UInt64, shuffles: Bool,
    progress: (Int) -> Bool
  ) throws -> History.Epoch {
    var generator = Philox(seed: seed, stream: UInt64(epochsSeen))
    let order = shuffles ? generator.permutation(data.count) : (0..<Int32(data.count)).map { $0 }
    try variables.write(DataNames.train.order, HostTensor([data.count], order))
    try variables.write(DataNames.train.cursor, HostTensor([3], [0, 0, Int32(clamping: step)]))
    epochsSeen += 1

    let start = Date()
    var done = 0
    var continues = true
    for (executable, count) in zip(executables, plan.counts) {
      var left = count
      while left > 0, continues {
        let burst = min(left, Self.stepsPerWait)
        for _ in 0..<burst { try executable.run() }
        try context.queue.finish()
        left -= burst
        done += burst
        continues = progress(done)
      }
    }
    let seconds = Date().timeIntervalSince(start)
    step += done

    let rows = plan.rows.prefix(done)
    let figures = try variables.read(DataNames.train.history).doubles
    let result = Evaluation(figures: figures, rows: Array(rows), isClassification: loss.isClassification)
    return History.Epoch(
      number: number, trainLoss: result.loss, trainAccuracy: result.accuracy, validation: nil, trainSeconds: seconds,
      stepLosses: (0..<done).map { figures[2 * $0] })
  }

  /// Steps between two waits of the host: long enough to cost nothing, short enough for a progress bar.
  private static let stepsPerWait = 64
  private static let evaluationBatchSize = 1000
  /// The ways out where the last batch is too short.
  static let shortBatchAdvice = "Choose another batch size, or leave the short batch out"

  /// Loss and accuracy in evaluation mode; changes nothing.
  ///
  /// - Parameter batchSize: samples that the device takes at once; more than 0. It changes the loss by rounding only.
  /// - Throws: a bad size, samples or targets that do not fit the network, or what the device says; during `fit`.
  public func evaluate(_ data: Dataset, batchSize: Int = 1000) throws -> Evaluation {
    try checkIdle("evaluate")
    try checkOutputs(for: data, rows: EpochPlan(data, batchSize: batchSize, dropsLast: false).batches[0])
    try upload()
    try prepareEvaluation(data, batchSize: batchSize)
    return try evaluatePrepared(data, batchSize: batchSize)
  }

  private func prepareEvaluation(_ data: Dataset, batchSize: Int) throws {
    let plan = try EpochPlan(data, batchSize: batchSize, dropsLast: false)
    try place(data, DataNames.evaluation, steps: plan.steps)
    try variables.write(DataNames.evaluation.order, HostTensor([data.count], (0..<Int32(data.count)).map { $0 }))
    // New ones are enqueued once here, for what drivers put off until then: compilation is no part of an epoch.
    let known = compilations
    for rows in plan.batches {
      let made = compilations
      let executable = try evaluationExecutable(StepShape(data, rows: rows, steps: plan.steps))
      if compilations > made { try executable.run() }
    }
    if compilations > known { try context.queue.finish() }
  }

  private func evaluatePrepared(_ data: Dataset, batchSize: Int = evaluationBatchSize) throws -> Evaluation {
    let plan = try EpochPlan(data, batchSize: batchSize, dropsLast: false)
    try variables.write(DataNames.evaluation.cursor, HostTensor([3], [Int32](repeating: 0, count: 3)))
    for (rows, count) in zip(plan.batches, plan.counts) {
      let executable = try evaluationExecutable(StepShape(data, rows: rows, steps: plan.steps))
      for _ in 0..<count { try executable.run() }
    }
    let figures = try variables.read(DataNames.evaluation.history).doubles
    return Evaluation(figures: figures, rows: plan.rows, isClassification: loss.isClassification)
  }

  /// The network's outputs for samples [n, …], in evaluation mode: [n, …] of the trainer's type.
  ///
  /// - Parameters:
  ///   - scale: multiplies the features, as ``Dataset/scale`` does.
  ///   - batchSize: samples that the device takes at once; more than 0.
  /// - Throws: sizes of 0, samples that do not fit the network, or what the device says; during `fit`.
  public func predict(_ features: HostTensor, scale: Double = 1, batchSize: Int = 1000) throws -> HostTensor {
    try checkIdle("predict")
    guard features.shape.rank > 1, features.shape[0] > 0, batchSize > 0 else {
      throw TrainingError("expects samples [n, …] and a batch size above 0, got \(features.type) and \(batchSize)")
    }
    try upload()
    var bytes: [UInt8] = []
    var shape = Shape.scalar
    for start in stride(from: 0, to: features.shape[0], by: batchSize) {
      let batch = try features.rows(start..<min(start + batchSize, features.shape[0]))
      let key = ExecutableKey.predict(batch.type, scale: scale, isFull: batch.shape[0] == batchSize)
      let names = key.names
      if variables.type(of: names.features) != batch.type { forget(names) }
      try variables.place(names.features, batch, .data)
      try variables.place(names.order, HostTensor([batch.shape[0]], (0..<Int32(batch.shape[0])).map { $0 }), .control)
      try variables.place(names.cursor, HostTensor(zeros: Cursor.type), .control)
      let executable = try executable(key) {
        try model.predictionGraph(batch.type, names, scale: scale, dtype: dtype)
      }
      try executable.run()
      let outputs = try executable.output("outputs")
      bytes += outputs.bytes
      shape = Shape([features.shape[0]] + outputs.shape.dimensions.dropFirst())
    }
    return try HostTensor(TensorType(shape, dtype), bytes: bytes)
  }

  /// Throws while `fit` runs: a call of its `observe` would put the host's values, those of the last epoch's end, over
  /// what the device has learnt since.
  func checkIdle(_ call: String) throws {
    guard !isFitting else {
      throw TrainingError(
        "fit is running: \(call) expects to be called before or after it, not by observe; return false there to stop")
    }
  }

  /// Throws when the network does not take the samples, or its outputs and the targets do not go together.
  private func checkOutputs(for data: Dataset, rows: Int) throws {
    let outputs = try model.outputType(for: Shape([rows] + data.featureShape.dimensions), dtype: dtype)
    let given = Shape(Array(outputs.shape.dimensions.dropFirst()))
    switch (loss.isClassification, data.classCount) {
    case (true, 0):
      throw TrainingError("\(loss.rawValue) expects class labels, data has targets \(data.targets.type)")
    case (true, let classCount):
      // More outputs than classes are allowed: those of a network made for more.
      guard given.rank == 1, given[0] >= classCount else {
        let outputs = given.rank == 1 ? "\(given[0])" : "\(given)"
        throw TrainingError("network gives \(outputs) outputs, data has \(classCount) classes")
      }
    case (false, 0):
      let wanted = Shape(Array(data.targets.shape.dimensions.dropFirst()))
      guard given == wanted else { throw TrainingError("network gives outputs \(given), data has targets \(wanted)") }
    case (false, let classCount):
      throw TrainingError(
        "\(loss.rawValue) expects targets of shape \(given), data has labels of \(classCount) classes")
    }
  }

  // MARK: Executables

  func trainingExecutable(_ shape: StepShape) throws -> Executable {
    try executable(.train(shape, trained: model.trainedVariables)) {
      try model.trainingGraph(shape, loss: loss, rule: optimizer.rule, dtype: dtype)
    }
  }

  private func evaluationExecutable(_ shape: StepShape) throws -> Executable {
    try executable(.evaluate(shape)) { try model.evaluationGraph(shape, loss: loss, dtype: dtype) }
  }

  private func executable(_ key: ExecutableKey, _ graph: () throws -> Graph) throws -> Executable {
    if let known = executables[key] { return known }
    let made = try Executable(try graph(), variables: variables, options: options)
    executables[key] = made
    compilations += 1
    return made
  }

  /// Drops the executables that are bound to buffers about to be replaced.
  private func forget(_ names: DataNames) {
    executables = executables.filter { $0.key.names.prefix != names.prefix }
  }

  // MARK: Values on host and device

  /// The model's values to the device.
  private func upload() throws {
    for (name, value) in model.state { try variables.write(name, value.converted(to: dtype)) }
  }

  /// The device's values to the model.
  private func download() throws {
    let parameters = try model.parameters.map { try variables.read($0.path) }
    let statistics = try model.runningStatistics.map { try variables.read($0.path) }
    for (parameter, value) in zip(model.parameters, parameters) { parameter.value = value }
    for (statistic, value) in zip(model.runningStatistics, statistics) { statistic.value = value }
  }

  /// After an error in an epoch: the steps that the device has taken, by its own count, so that parameters, optimizer
  /// slots and step go on together.
  private func takeOverInterrupted() throws {
    try context.queue.finish()
    let cursor = try variables.read(DataNames.train.cursor).doubles
    try download()
    step = max(step, Int(cursor[Cursor.step]))
  }

  /// Makes a data set resident. Executables bound to buffers of another size are forgotten.
  private func place(_ data: Dataset, _ names: DataNames, steps: Int) throws {
    let history = TensorType([steps, 2], dtype)
    let isSame =
      variables.type(of: names.features) == data.features.type
      && variables.type(of: names.targets) == data.targets.type && variables.type(of: names.history) == history
    if !isSame { forget(names) }
    try variables.place(names.features, data.features, .data)
    try variables.place(names.targets, data.targets, .data)
    try variables.place(names.order, HostTensor(zeros: TensorType([data.count], .int32)), .control)
    try variables.place(names.cursor, HostTensor(zeros: Cursor.type), .control)
    try variables.place(names.history, HostTensor(zeros: history), .control)
  }
}

extension VariableStore {
  /// Writes a variable with a buffer of its own; one of another type is replaced.
  fileprivate func place(_ name: String, _ tensor: HostTensor, _ role: Role) throws {
    if type(of: name) != tensor.type { try declare([Variable(name, tensor.type, role)]) }
    try write(name, tensor)
  }
}

extension StepShape {
  fileprivate init(_ data: Dataset, rows: Int, steps: Int) {
    self.init(
      rows: rows, features: data.features.type, targets: data.targets.type, scale: data.scale, steps: steps)
  }
}

/// How an epoch is cut into steps.
struct EpochPlan {
  /// The sizes of batch that occur: the full one, then the short last one.
  let batches: [Int]
  /// How many steps there are of each.
  let counts: [Int]

  init(_ data: Dataset, batchSize: Int, dropsLast: Bool) throws {
    guard batchSize > 0 else { throw TrainingError("expects a batch size above 0, got \(batchSize)") }
    let size = min(batchSize, data.count)
    let remainder = data.count % size
    batches = [size] + (remainder > 0 && !dropsLast ? [remainder] : [])
    counts = [data.count / size] + (batches.count > 1 ? [1] : [])
  }

  var steps: Int { counts.reduce(0, +) }
  /// The batch size of each step.
  var rows: [Int] { zip(batches, counts).flatMap { Array(repeating: $0, count: $1) } }
}

extension Evaluation {
  /// From a history's rows of mean loss and hits, for batches of `rows` samples.
  init(figures: [Double], rows: [Int], isClassification: Bool) {
    let count = rows.reduce(0, +)
    var (loss, hits) = (0.0, 0.0)
    for (step, rows) in rows.enumerated() {
      loss += figures[2 * step] * Double(rows)
      hits += figures[2 * step + 1]
    }
    self.init(
      loss: count == 0 ? .nan : loss / Double(count),
      accuracy: isClassification && count > 0 ? hits / Double(count) : nil, count: count)
  }
}
