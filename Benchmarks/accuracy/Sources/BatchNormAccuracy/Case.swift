import Keel

/// One batch normalization to compute: the arrays of a case, and where its channels are.
///
/// In the file they are `<case>.x`, `.scale`, `.shift` and `.dy`; the metadata has `<case>.axis`.
struct Case {
  static let epsilon = 1e-5
  /// Weight of the new value in the running statistics.
  static let momentum = 0.1
  /// The running statistics and their values before the step.
  static let running = [(key: "runningMean", start: Float(0)), (key: "runningVariance", start: Float(1))]

  let name: String
  let axis: Int
  let arrays: [String: HostTensor]

  init(_ name: String, in file: Safetensors) throws {
    guard let axis = file.metadata["\(name).axis"].flatMap({ Int($0) }) else {
      throw Failure("[accuracy] expected \(name).axis in the file's metadata")
    }
    self.name = name
    self.axis = axis
    arrays = try Dictionary(
      uniqueKeysWithValues: ["x", "scale", "shift", "dy"].map {
        guard let array = file.tensors["\(name).\($0)"], array.dtype == .float32 else {
          throw Failure("[accuracy] expected \(name).\($0), float32, in the file")
        }
        return ($0, array)
      })
  }

  /// Training forward, backward for the given dy, and one update of running statistics that start at 0 and 1.
  func graph() throws -> Graph {
    let builder = GraphBuilder(name: name, mode: .training)
    func input(_ key: String, _ role: Role = .data) throws -> Tensor {
      guard let array = arrays[key] else { throw Failure("[accuracy] \(name) has no \(key)") }
      return builder.input(key, array.type, role: role)
    }
    let (x, dy) = (try input("x"), try input("dy"))
    let (scale, shift) = (try input("scale", .parameter), try input("shift", .parameter))
    guard x.shape.dimensions.indices.contains(axis) else {
      throw Failure("[accuracy] \(name): expected an axis of \(x.shape), got \(axis)")
    }

    let forward = builder.append(
      .batchNormTraining(BatchNormTraining(axis: axis, epsilon: Self.epsilon)), [x, scale, shift])
    let backward = builder.append(
      .batchNormBackward(BatchNormBackward(axis: axis, epsilon: Self.epsilon)), [dy, x, scale] + forward[1...3])
    let channels = x.shape[axis]
    let m = Double(x.shape.count / channels)
    let running = Self.running.map {
      builder.input($0.key, TensorType([channels], .float32), role: .runningStatistic)
    }
    let moved = builder.append(
      .batchNormRunningUpdate(BatchNormRunningUpdate(weight: .fixed(Self.momentum), varianceFactor: m / (m - 1))),
      running + [builder.constant(0, [channels])] + forward[1...3])
    for (old, new) in zip(running, moved) { builder.update(old, with: new) }

    let results = [
      ("y", forward[0]), ("mean", forward[1]), ("variance", forward[3]),
      ("dx", backward[0]), ("dscale", backward[1]), ("dshift", backward[2]),
    ]
    for (key, tensor) in results { builder.output(key, tensor) }
    return try builder.graph()
  }

  /// The results by name, and the variants of the kernels that computed them.
  func run(
    on context: ComputeContext, variants: [String: String]
  ) throws -> (results: [String: HostTensor], variants: [String]) {
    let graph = try graph()
    let store = VariableStore(context)
    try store.declare(graph.inputs.map { Variable($0.input.label, $0.type, $0.input.role) })
    for (key, array) in arrays { try store.write(key, array) }
    for (key, start) in Self.running {
      let channels = store.type(of: key)?.count ?? 0
      try store.write(key, HostTensor([channels], [Float](repeating: start, count: channels)))
    }
    var options = Executable.Options.environment
    options.variants = variants
    let executable = try Executable(graph, variables: store, options: options)
    try executable.run()
    var results: [String: HostTensor] = [:]
    for output in graph.outputs { results[output.name] = try executable.output(output.name) }
    for (key, _) in Self.running { results[key] = try store.read(key) }
    return (results, executable.variants)
  }
}

struct Failure: Error, CustomStringConvertible {
  let description: String
  init(_ description: String) { self.description = description }
}
