import KeelRuntime

extension Trainer {
  /// Kernel launches of one full training step of `fit` with this data and batch size.
  ///
  /// - Throws: when `fit` has not been called with such data before: nothing is on the device for it then.
  public func launchesPerStep(_ data: Dataset, batchSize: Int) throws -> Int {
    let plan = try EpochPlan(data, batchSize: batchSize, dropsLast: false)
    let shape = StepShape(
      rows: plan.batches[0], features: data.features.type, targets: data.targets.type, scale: data.scale,
      steps: plan.steps)
    return try trainingExecutable(shape, .stop).launches.count
  }
}
