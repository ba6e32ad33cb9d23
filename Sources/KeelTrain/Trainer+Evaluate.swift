import KeelCore
import KeelGraph
import KeelRuntime

extension Trainer {
  static var evaluationBatchSize: Int { 1000 }

  /// Loss and accuracy in evaluation mode; changes nothing.
  ///
  /// - Parameters:
  ///   - batchSize: samples that the device takes at once; more than 0. It changes the loss by rounding only.
  ///   - placement: whether the device holds all samples or windows of them.
  /// - Throws: a bad size, samples or targets that do not fit the network, ``SampleError``, or what the device says;
  ///   during `fit`.
  public func evaluate(
    _ data: any SampleSource, batchSize: Int = 1000, placement: DataPlacement = .automatic
  ) throws -> Evaluation {
    try checkIdle("evaluate")
    try data.validate()
    try checkOutputs(for: data, rows: EpochPlan(data, batchSize: batchSize, dropsLast: false).batches[0])
    try upload()
    return try evaluate(prepareEvaluation(data, batchSize: batchSize, placement))
  }

  /// An evaluation that is compiled, and may be made several times.
  struct PreparedEvaluation {
    let plan: EpochPlan
    let feed: SampleFeed
    /// By window, then by size of batch.
    let executables: [[Executable]]

    /// By window, what the device is given at once: how many batches of each size. As in training no launch is longer.
    var bursts: [[[Int]]] { feed.windows.map { $0.bursts(ofSteps: Trainer.stepsPerWait) } }
  }

  func prepareEvaluation(
    _ data: any SampleSource, batchSize: Int, _ placement: DataPlacement
  ) throws -> PreparedEvaluation {
    let plan = try EpochPlan(data, batchSize: batchSize, dropsLast: false)
    let feed = try feed(data, plan, .evaluation, placement)
    // New ones are enqueued once here, for what drivers put off until then: compilation is no part of an epoch.
    let known = compilations
    let executables = try feed.slots.map { names in
      try plan.batches.map { rows in
        let made = compilations
        let executable = try evaluationExecutable(feed.shape(names, rows: rows, steps: plan.steps))
        if compilations > made { try executable.run() }
        return executable
      }
    }
    if compilations > known { try context.queue.finish() }
    return PreparedEvaluation(plan: plan, feed: feed, executables: executables)
  }

  func evaluate(_ prepared: PreparedEvaluation) throws -> Evaluation {
    let (plan, feed) = (prepared.plan, prepared.feed)
    try feed.begin()
    for (window, bursts) in zip(feed.windows, prepared.bursts) {
      try feed.open(window)
      for (number, burst) in bursts.enumerated() {
        // The last one is waited for below.
        if number > 0 { try context.queue.finish() }
        for (executable, count) in zip(prepared.executables[window.slot], burst) { try executable.run(times: count) }
      }
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

  /// Throws when the network does not take the samples, or its outputs and the targets do not go together.
  func checkOutputs(for data: any SampleSource, rows: Int) throws {
    let outputs = try model.outputType(for: Shape([rows] + data.featureShape.dimensions), dtype: dtype)
    let given = Shape(Array(outputs.shape.dimensions.dropFirst()))
    switch (loss.isClassification, data.classCount) {
    case (true, 0):
      throw TrainingError("\(loss.rawValue) expects class labels, data has targets \(data.targetType)")
    case (true, let classCount):
      // More outputs than classes are allowed: those of a network made for more.
      guard given.rank == 1, given[0] >= classCount else {
        let outputs = given.rank == 1 ? "\(given[0])" : "\(given)"
        throw TrainingError("network gives \(outputs) outputs, data has \(classCount) classes")
      }
    case (false, 0):
      let wanted = Shape(Array(data.targetType.shape.dimensions.dropFirst()))
      guard given == wanted else { throw TrainingError("network gives outputs \(given), data has targets \(wanted)") }
    case (false, let classCount):
      throw TrainingError(
        "\(loss.rawValue) expects targets of shape \(given), data has labels of \(classCount) classes")
    }
  }
}
