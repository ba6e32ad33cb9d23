import Foundation
import KeelCore
import KeelGraph
import KeelRuntime

extension Trainer {
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
  ///   - onNonFiniteLoss: whether a step whose loss is infinite or not a number ends training or is left out.
  ///   - placement: whether the device holds all samples or windows of them, of both sets. The same bits are learnt.
  ///   - observe: told of progress; returning false stops training after the steps at hand, and what was learnt is
  ///     kept.
  /// - Throws: bad sizes, a shape that does not fit a layer, outputs that do not fit the targets, ``NonFiniteLoss``,
  ///   ``SampleError``, or what the device says; when it is called by its own `observe`.
  @discardableResult
  public func fit(
    _ data: any SampleSource, epochs: Int, batchSize: Int, validation: (any SampleSource)? = nil, seed: UInt64 = 0,
    shuffles: Bool = true, dropsLast: Bool = false, onNonFiniteLoss: NonFinitePolicy = .stop,
    placement: DataPlacement = .automatic,
    observe: (TrainingEvent) -> Bool = { _ in true }
  ) throws -> History {
    try checkIdle("fit")
    isFitting = true
    defer { isFitting = false }
    guard epochs >= 0 else { throw TrainingError("expects 0 or more epochs, got \(epochs)") }
    try optimizer.validate()
    try data.validate()
    try validation?.validate()
    let plan = try EpochPlan(data, batchSize: batchSize, dropsLast: dropsLast)
    try checkOutputs(for: data, rows: plan.batches[0])
    if let validation { try checkOutputs(for: validation, rows: min(Self.evaluationBatchSize, validation.count)) }
    let start = Date()
    try upload()
    let feed = try feed(data, plan, .train, placement)
    try variables.place(
      DataNames.learningRates,
      HostTensor(TensorType([plan.steps], dtype), values: Array(repeating: learningRate, count: plan.steps)), .control)
    let steps = try feed.slots.map { names in
      try plan.batches.map { rows in
        do {
          return try trainingExecutable(feed.shape(names, rows: rows, steps: plan.steps), onNonFiniteLoss)
        } catch let error as GraphError where rows == 1 && batchSize > 1 && data.count > 1 {
          throw TrainingError(
            "the last batch of an epoch has 1 sample: \(error). \(Self.shortBatchAdvice)")
        }
      }
    }
    lastTraining = (feed.shape(feed.slots[0], rows: plan.batches[0], steps: plan.steps), onNonFiniteLoss)
    // Drivers finish compiling a kernel when it is first enqueued: once here, so that no step waits for it.
    try variables.preservingState {
      for executable in steps.joined() {
        // Each as the first step of an epoch, which may have fewer steps than there are executables.
        try variables.write(DataNames.train.cursor, HostTensor(zeros: Cursor.type))
        try executable.run()
      }
    }
    let evaluation = try validation.map {
      try prepareEvaluation($0, batchSize: Self.evaluationBatchSize, placement)
    }
    var history = History()
    guard observe(.compiled(seconds: Date().timeIntervalSince(start))) else { return history }

    try variables.write(DataNames.train.cursor, HostTensor([3], [0, 0, Int32(clamping: step)]))
    let course = Course(
      data: data, plan: plan, epochs: epochs, feed: feed, executables: steps, seed: seed, shuffles: shuffles,
      validates: evaluation != nil, variables)
    var continues = true
    for number in 1...max(epochs, 1) where epochs > 0 && continues {
      var epoch: History.Epoch
      do {
        epoch = try self.epoch(number, of: course) { done in
          continues = observe(.progress(epoch: number, step: done, steps: plan.steps)) && continues
          return continues
        }
      } catch var error as NonFiniteLoss {
        try keepInterrupted(course)
        error.history = history
        throw error
      } catch var error as SampleError {
        try? keepInterrupted(course)
        error.history = history
        throw error
      } catch {
        try? keepInterrupted(course)
        throw error
      }
      do {
        if let evaluation, continues { epoch.validation = try evaluate(evaluation) }
        history.epochs.append(epoch)
      } catch var error as SampleError {
        history.epochs.append(epoch)
        error.history = history
        throw error
      }
      continues = observe(.epoch(epoch)) && continues
      if !continues { try takeBack(course) }
    }
    return history
  }

  /// Steps between two waits of the host: long enough to cost nothing, short enough for a progress bar.
  static let stepsPerWait = 64
  /// The ways out where the last batch is too short.
  static let shortBatchAdvice = "Choose another batch size, or leave the short batch out"
}
