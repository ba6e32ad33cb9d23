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
  public internal(set) var step = 0

  let context: ComputeContext
  let variables: VariableStore
  let dtype: DType
  let options: Executable.Options
  var epochsSeen = 0
  private var executables: [ExecutableKey: Executable] = [:]
  /// Executables made so far.
  private(set) var compilations = 0
  var isFitting = false
  /// About how many bytes of samples a window has where they are streamed.
  var windowBytes = DataPlacement.windowBytes
  /// The step of full batches that `fit` ran last.
  var lastTraining: (shape: StepShape, onNonFiniteLoss: NonFinitePolicy)?

  enum ExecutableKey: Hashable {
    /// Frozen variables have no update in the graph, so what is trained is part of the key.
    case train(StepShape, trained: [String], NonFinitePolicy)
    case evaluate(StepShape)
    /// Full batches and the short one have variables of their own.
    case predict(TensorType, scale: Double, isFull: Bool)

    /// The variables that the executable is bound to.
    var names: DataNames {
      switch self {
      case .train(let shape, _, _), .evaluate(let shape): shape.names
      case .predict(_, _, let isFull): isFull ? .prediction : .lastPrediction
      }
    }

    /// For the second of two windows, the executable of the first.
    var first: ExecutableKey? {
      guard names.isSecond else { return nil }
      switch self {
      case .train(var shape, let trained, let onNonFiniteLoss):
        shape.names.isSecond = false
        return .train(shape, trained: trained, onNonFiniteLoss)
      case .evaluate(var shape):
        shape.names.isSecond = false
        return .evaluate(shape)
      case .predict: return nil
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
    guard dtype.isFloatingPoint, !dtype.isStorageOnly else { throw TrainingError("expects f32 or f64, got \(dtype)") }
    try model.initialize(seed: seed, dtype: dtype)
    self.model = model
    self.loss = loss
    self.optimizer = optimizer
    self.dtype = dtype
    self.options = options
    context = try ComputeContext(device, profiling: options.debugLevel > 0 || options.profiles)
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

  /// Throws while `fit` runs: a call of its `observe` would put the host's values, those of the last epoch's end, over
  /// what the device has learnt since.
  func checkIdle(_ call: String) throws {
    guard !isFitting else {
      throw TrainingError(
        "fit is running: \(call) expects to be called before or after it, not by observe; return false there to stop")
    }
  }

  // MARK: Executables

  func trainingExecutable(_ shape: StepShape, _ onNonFiniteLoss: NonFinitePolicy) throws -> Executable {
    try executable(.train(shape, trained: model.trainedVariables, onNonFiniteLoss)) {
      try model.trainingGraph(
        shape, loss: loss, rule: optimizer.rule, dtype: dtype, onNonFiniteLoss: onNonFiniteLoss)
    }
  }

  func evaluationExecutable(_ shape: StepShape) throws -> Executable {
    try executable(.evaluate(shape)) { try model.evaluationGraph(shape, loss: loss, dtype: dtype) }
  }

  func executable(_ key: ExecutableKey, _ graph: () throws -> Graph) throws -> Executable {
    if let known = executables[key] { return known }
    let twin = key.first.flatMap { executables[$0] }
    let made = try Executable(try graph(), variables: variables, options: options, twin: twin)
    executables[key] = made
    compilations += 1
    return made
  }

  /// Drops the executables that are bound to buffers about to be replaced.
  func forget(_ names: DataNames) {
    executables = executables.filter { $0.key.names.prefix != names.prefix }
  }

  // MARK: Values on host and device

  /// The model's values to the device.
  func upload() throws {
    for (name, value) in model.state { try variables.write(name, value.converted(to: dtype)) }
  }

  /// The device's values to the model.
  func download() throws {
    try takeOver(variables.read(.parameter), variables.read(.runningStatistic))
  }

  /// Values by name to the model.
  func takeOver(_ parameters: [String: HostTensor], _ statistics: [String: HostTensor]) throws {
    func value(_ path: String, _ values: [String: HostTensor]) throws -> HostTensor {
      guard let value = values[path] else {
        throw TrainingError("\(path): expects its values on the device, found none")
      }
      return value
    }
    for parameter in model.parameters { parameter.value = try value(parameter.path, parameters) }
    for statistic in model.runningStatistics { statistic.value = try value(statistic.path, statistics) }
  }

  /// After an error in an epoch: the steps that the device has taken, by its own count, so that parameters, optimizer
  /// slots and step go on together.
  func takeOverInterrupted() throws {
    try context.queue.finish()
    let cursor = try variables.read(DataNames.train.cursor).doubles
    try download()
    step = max(step, Int(cursor[Cursor.step]))
  }

  /// Makes room for a data set, or for windows of it. Executables bound to buffers of another size are forgotten.
  func feed(
    _ data: any SampleSource, _ plan: EpochPlan, _ names: DataNames, _ placement: DataPlacement
  ) throws -> SampleFeed {
    let feed = try SampleFeed(data, plan, names, placement, windowBytes: windowBytes, variables)
    let history = TensorType([plan.steps, 2], dtype)
    let needs = feed.needs + [Variable(names.history, history, .control)]
    let known = [names.second.features, names.second.targets].filter { variables.type(of: $0) != nil }
    if needs.contains(where: { variables.type(of: $0.name) != $0.type }) || !feed.isStreamed && !known.isEmpty {
      forget(names)
      for name in known { variables.release(name) }
    }
    try variables.declare(needs)
    try variables.write(names.cursor, HostTensor(zeros: Cursor.type))
    try variables.write(names.history, HostTensor(zeros: history))
    try feed.upload()
    return feed
  }
}

extension VariableStore {
  /// Writes a variable with a buffer of its own; one of another type is replaced.
  func place(_ name: String, _ tensor: HostTensor, _ role: Role) throws {
    if type(of: name) != tensor.type { try declare([Variable(name, tensor.type, role)]) }
    try write(name, tensor)
  }
}
