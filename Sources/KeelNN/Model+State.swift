import KeelCore

extension Model {
  /// The values of all variables by name, parameters first, in the order of declaration; those without a value are
  /// left out. Names are unique in a model that ``initialize(seed:dtype:reset:)`` takes.
  public var state: [(name: String, value: HostTensor)] {
    assignPaths()
    return parameters.compactMap { parameter in parameter.value.map { (parameter.path, $0) } }
      + runningStatistics.compactMap { statistic in statistic.value.map { (statistic.path, $0) } }
  }

  /// Takes the values of all variables from `state`, by name. Either all are taken or, when one does not fit, none. Counts
  /// that are not there, those of batches, begin anew.
  ///
  /// - Throws: ``SettingsError`` that lists the names that are missing, unknown or of another shape, or says which name
  ///   two variables have.
  public func load(_ state: [String: HostTensor]) throws(SettingsError) {
    try checkNames("load")
    assignPaths()
    let shapes =
      parameters.map { (path: $0.path, shape: $0.shape) } + runningStatistics.map { (path: $0.path, shape: $0.shape) }
    var problems: [String] = []
    // Files of other programs may have no counts: these begin anew.
    let counts = Set(runningStatistics.lazy.filter { !$0.countsAsParameter }.map(\.path))
    for (path, shape) in shapes where state[path] != nil || !counts.contains(path) {
      guard let value = state[path] else {
        problems.append("\(path) is missing")
        continue
      }
      if value.shape != shape || !value.dtype.isFloatingPoint {
        problems.append("\(path) is \(value.type), expected real numbers of shape \(shape)")
      }
    }
    let known = Set(shapes.map(\.path))
    problems += state.keys.filter { !known.contains($0) }.sorted().map { "\($0) is no variable of the model" }
    guard problems.isEmpty else {
      let first = problems.prefix(5).joined(separator: "; ")
      let more = problems.count > 5 ? "; and \(problems.count - 5) more" : ""
      throw SettingsError("load", "expects the variables of the model: \(first)\(more)")
    }
    for parameter in parameters { parameter.value = state[parameter.path] }
    let dtype = state.first?.value.dtype ?? .float32
    for statistic in runningStatistics {
      let initial = try? HostTensor(
        TensorType(statistic.shape, dtype),
        values: [Double](repeating: statistic.initialValue, count: statistic.shape.count))
      statistic.value = state[statistic.path] ?? initial
    }
  }
}
