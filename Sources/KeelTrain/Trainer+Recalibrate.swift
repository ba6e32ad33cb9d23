import KeelCore
import KeelGraph
import KeelNN
import KeelRuntime

extension Trainer {
  /// Replaces the model's running statistics by those of `data`, for the parameters as they are, and their counts of
  /// batches by the number of batches here. Parameters, optimizer and step do not change, and either all statistics are
  /// replaced or, when something is thrown, none.
  ///
  /// What the statistics are stands at ``Recalibration/Mode``. Frozen layers normalize by their running statistics and
  /// keep them; a statistic that is frozen alone keeps its value. The same data, batch size and seed give the same
  /// bits.
  ///
  /// - Parameters:
  ///   - batchSize: samples of a batch. The last, shorter batch counts too, as the mode says, unless `dropsLast`.
  ///   - shuffles: batches of samples in a random order, as in training; samples sorted by class would give later
  ///     layers batches that no training has. False keeps the order of the data.
  ///   - seed: of that order.
  ///   - placement: whether the device holds all samples or windows of them.
  /// - Returns: the new statistics, in double precision.
  /// - Throws: bad sizes, a network without running statistics, a batch of one value a channel, statistics that are
  ///   not finite, ``SampleError``, or what the device says; during `fit`.
  @discardableResult
  public func recalibrate(
    on data: any SampleSource, mode: Recalibration.Mode = .exact, batchSize: Int = 256, shuffles: Bool = true,
    seed: UInt64 = 0, dropsLast: Bool = false, placement: DataPlacement = .automatic
  ) throws -> Recalibration {
    try checkIdle("recalibrate")
    guard !model.runningStatistics.isEmpty else {
      throw TrainingError("recalibration expects a network with running statistics, got none")
    }
    guard model.runningStatistics.contains(where: { !$0.isFrozen }) else {
      throw TrainingError("recalibration expects running statistics that are not frozen, all are")
    }
    try data.validate()
    let plan = try EpochPlan(data, batchSize: batchSize, dropsLast: dropsLast)
    let variables = try calibrationVariables()
    let feed = try SampleFeed(data, plan, .calibration, placement, windowBytes: windowBytes, variables)
    try variables.declare(feed.needs)
    try feed.upload()
    var options = options
    options.merges = false
    let passes = try feed.slots.map { names in
      try plan.batches.map { rows in
        let isLast = plan.batches.count > 1 && rows < plan.batches[0]
        let calibration = try calibrationGraph(feed.shape(names, rows: rows, steps: plan.steps), isLast: isLast)
        return (calibration.norms, try Executable(calibration.graph, variables: variables, options: options))
      }
    }
    var gathered = passes[0][0].0.map { Gathered($0, mode) }
    guard !gathered.isEmpty else {
      throw TrainingError("recalibration expects running statistics that follow those of batches, got none")
    }
    var generator = Philox(seed: seed)
    try feed.begin(shuffles ? generator.permutation(data.count) : nil)
    for window in feed.windows {
      try feed.open(window)
      for ((norms, executable), count) in zip(passes[window.slot], window.counts) {
        for _ in 0..<count {
          try executable.run()
          for (index, norm) in norms.enumerated() { try gathered[index].take(norm, from: executable) }
        }
      }
    }
    let result = Recalibration(
      mode: mode, samples: plan.rows.reduce(0, +), batches: plan.steps, layers: gathered.map(\.layer))
    try store(result, gathered)
    return result
  }

  /// The model's values in buffers of their own, as the data will be: `fit` finds its own as it left them.
  private func calibrationVariables() throws -> VariableStore {
    let store = VariableStore(context)
    let parameters = Set(model.parameters.map(\.path))
    let state = model.state.map { name, value in
      (name, value.converted(to: dtype), parameters.contains(name) ? Role.parameter : .runningStatistic)
    }
    try store.declare(state.map { Variable($0.0, $0.1.type, $0.2) })
    for (name, value, _) in state { try store.write(name, value) }
    return store
  }

  private func calibrationGraph(_ shape: StepShape, isLast: Bool) throws -> CalibrationGraph {
    do {
      return try CalibrationGraph(model, shape, dtype: dtype)
    } catch {
      guard shape.rows == 1, isLast else { throw error }
      throw TrainingError(
        "the last batch has 1 sample: \(error). \(Self.shortBatchAdvice)")
    }
  }

  /// Takes the statistics over into the model.
  private func store(_ result: Recalibration, _ gathered: [Gathered]) throws {
    let moving = Set(model.runningStatistics.lazy.filter { !$0.isFrozen }.map(\.path))
    var values: [String: HostTensor] = [:]
    for (layer, gathered) in zip(result.layers, gathered) {
      let (mean, variance) = (gathered.norm.mean, gathered.norm.variance)
      let batches = [Double](repeating: Double(result.batches), count: layer.mean.count)
      let new = [(mean, layer.mean), (variance, layer.variance), (gathered.norm.batches, batches)]
      for (name, numbers) in new where moving.contains(name) {
        let value = try HostTensor(TensorType([numbers.count], dtype), values: numbers)
        guard value.doubles.allSatisfy(\.isFinite) else {
          throw TrainingError("recalibration gives \(name) that is not finite; the statistics stay as they were")
        }
        values[name] = value
      }
    }
    for statistic in model.runningStatistics {
      if let value = values[statistic.path] { statistic.value = value }
    }
  }
}

/// What was seen of one batch norm.
private struct Gathered {
  let norm: CalibrationGraph.Norm
  private let mode: Recalibration.Mode
  private var moments: Moments
  private var sums: BatchSums

  init(_ norm: CalibrationGraph.Norm, _ mode: Recalibration.Mode) {
    self.norm = norm
    self.mode = mode
    moments = Moments(channels: norm.channels)
    sums = BatchSums(channels: norm.channels)
  }

  /// Adds the batch that `executable` has run.
  mutating func take(_ norm: CalibrationGraph.Norm, from executable: Executable) throws {
    func figure(_ figure: CalibrationGraph.Norm.Figure) throws -> [Double] {
      try executable.output(norm.output(figure)).doubles
    }
    // The device keeps the mean as a sum of two numbers.
    let mean = zip(try figure(.mean), try figure(.residual)).map { $0 + $1 }
    let variance = try figure(.variance)
    moments.merge(count: norm.count, mean: mean, variance: variance)
    if mode == .averageOfBatches { sums.add(mean: mean, variance: variance.map { $0 * norm.varianceFactor }) }
  }

  var layer: Recalibration.Layer {
    let count = moments.count
    switch mode {
    case .exact:
      let divisor = norm.isUnbiased ? count - 1 : count
      return Recalibration.Layer(
        path: norm.path, mean: moments.mean, variance: moments.squares.map { $0 / divisor }, count: Int(count))
    case .averageOfBatches:
      return Recalibration.Layer(path: norm.path, mean: sums.mean, variance: sums.variance, count: Int(count))
    }
  }
}
