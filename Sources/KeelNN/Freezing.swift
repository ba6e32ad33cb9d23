import KeelCore

extension BatchNorm {
  /// Takes the layer out of training: γ and β do not train, the running statistics do not move, and they normalize in
  /// training as they do in evaluation. This is what `trainable = False` means in Keras; in PyTorch
  /// `requires_grad_(False)` fixes γ and β alone, for which there is ``Parameter/isTrainable``.
  ///
  /// A frozen layer takes batches of one value per channel. Of a layer without running statistics only γ and β are
  /// fixed: there is nothing else that it could normalize by than the batch.
  ///
  /// The switch sits in the layer's variables, so copies of the layer share it. It may be thrown between two calls to
  /// `fit`.
  public func freeze() { setFrozen(true) }

  /// Gives the layer back to training: γ and β train, the running statistics move.
  public func unfreeze() { setFrozen(false) }

  /// Whether the running statistics normalize in training, too: both are frozen.
  public var isFrozen: Bool { runningMean?.isFrozen == true && runningVariance?.isFrozen == true }

  private func setFrozen(_ isFrozen: Bool) {
    for parameter in [scale, shift].compactMap({ $0 }) { parameter.isTrainable = !isFrozen }
    for statistic in [runningMean, runningVariance, batchesTracked].compactMap({ $0 }) { statistic.isFrozen = isFrozen }
  }

  /// The running statistics as at the start: mean 0, variance 1, no batches tracked. γ and β stay.
  public func resetRunningStatistics() {
    for statistic in [runningMean, runningVariance, batchesTracked].compactMap({ $0 }) { statistic.reset() }
  }
}

extension Model {
  /// Takes all variables of the layer at `path`, and of those inside of it, out of training: parameters do not train,
  /// running statistics do not move, batch norm normalizes as ``BatchNorm/freeze()`` says. Without a path: the whole
  /// model.
  ///
  /// - Parameter path: of a layer, `layers.1`, or of one variable, `layers.1.scale`.
  /// - Throws: ``SettingsError`` when no variable is there.
  public func freeze(_ path: String = "") throws(SettingsError) { try setFrozen(true, path, "freeze") }

  /// Gives all variables at and below `path` back to training, whoever took them out.
  ///
  /// - Throws: ``SettingsError`` when no variable is there.
  public func unfreeze(_ path: String = "") throws(SettingsError) { try setFrozen(false, path, "unfreeze") }

  /// The names of the variables that training does not change, in the order of declaration, parameters first.
  public var frozenVariables: [String] { names(frozen: true) }

  /// The names of those that it does change.
  public var trainedVariables: [String] { names(frozen: false) }

  /// All running statistics as at the start; parameters stay. Frozen statistics, too, are set back.
  public func resetRunningStatistics() {
    for statistic in runningStatistics { statistic.reset() }
  }

  private func names(frozen: Bool) -> [String] {
    assignPaths()
    return parameters.filter { $0.isTrainable != frozen }.map(\.path)
      + runningStatistics.filter { $0.isFrozen == frozen }.map(\.path)
  }

  private func setFrozen(_ isFrozen: Bool, _ path: String, _ operation: String) throws(SettingsError) {
    assignPaths()
    func isBelow(_ name: String) -> Bool { path.isEmpty || name == path || name.hasPrefix(path + ".") }
    let parameters = parameters.filter { isBelow($0.path) }
    let statistics = runningStatistics.filter { isBelow($0.path) }
    guard !parameters.isEmpty || !statistics.isEmpty else {
      throw SettingsError(operation, "expects the path of a layer with variables, got \(path.isEmpty ? "none" : path)")
    }
    for parameter in parameters { parameter.isTrainable = !isFrozen }
    for statistic in statistics { statistic.isFrozen = isFrozen }
  }
}

extension RunningStatistic {
  /// The first value in the type of the present one; without a value there is nothing to set back.
  func reset() {
    guard let type = value?.type else { return }
    // As many numbers as the type has elements always fit it; a present value is not to be lost in any case.
    value = (try? HostTensor(type, values: [Double](repeating: initialValue, count: type.count))) ?? value
  }
}
