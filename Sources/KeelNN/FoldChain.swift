import KeelCore
import KeelGraph

/// A network as a plain list of layers, in which batch norms are folded one by one.
struct FoldChain {
  /// A layer, with what is known of what comes in.
  struct Stage {
    let layer: any Layer
    let path: String
    var input: KnownShape
    /// The values of a linear layer, which folding changes.
    var linear: FoldedLinear?

    var norm: BatchNorm? { layer as? BatchNorm }
  }

  private var stages: [Stage] = []
  private let tolerance: Double

  /// - Throws: ``SettingsError`` when the layers do not fit each other or the sample.
  init(_ root: any Layer, sample: Shape?, tolerance: Double) throws {
    self.tolerance = tolerance
    append(root, "")
    if let sample { try trace(sample) } else { followRanks() }
  }

  /// The layers of sequentials, however deep, one after the other.
  private mutating func append(_ layer: any Layer, _ path: String) {
    guard let sequential = layer as? Sequential else {
      let name = path.isEmpty ? String(describing: type(of: layer)) : path
      stages.append(Stage(layer: layer, path: name, input: KnownShape(), linear: FoldedLinear(layer)))
      return
    }
    for (index, child) in sequential.layers.enumerated() {
      append(child, path.appending(component: Sequential.component(index)))
    }
  }

  /// Calls layer by layer on a symbolic batch, for the shapes in between.
  private mutating func trace(_ sample: Shape) throws {
    if let problem = sample.problem { throw SettingsError("fold", problem) }
    let builder = GraphBuilder(name: "fold", mode: .evaluation, dtype: .float64)
    // Two samples: one would not do for batch norm without running statistics.
    var x = builder.input("sample", TensorType(Shape([2] + sample.dimensions), .float64))
    for index in stages.indices {
      stages[index].input = KnownShape(x.shape)
      x = stages[index].layer(x)
    }
    if let error = builder.error { throw SettingsError("fold", "the layers do not fit: \(error)") }
  }

  /// Without a sample: after flattening the rank is 2, and no layer but `Flatten` changes it.
  private mutating func followRanks() {
    var known = KnownShape()
    for index in stages.indices {
      stages[index].input = known
      if stages[index].layer is Flatten { known = KnownShape(rank: 2) }
    }
  }

  /// Folds what can be folded and says what became of each batch norm.
  ///
  /// First from the left into linear layers before, so that of several batch norms behind one of them each finds it;
  /// then from the right into those after.
  mutating func fold() -> [Folding.Entry] {
    let paths = stages.filter { $0.norm != nil }.map(\.path)
    var outcomes: [String: Folding.Entry.Outcome] = [:]
    for path in paths {
      outcomes[path] = fold(path, forward: false) { .intoPreceding($0) }
    }
    for path in paths.reversed() {
      guard case .kept(let before)? = outcomes[path] else { continue }
      let outcome = fold(path, forward: true) { .intoFollowing($0) }
      if case .kept(let after) = outcome {
        outcomes[path] = .kept(before == after ? before : "\(before), and \(after)")
      } else {
        outcomes[path] = outcome
      }
    }
    return paths.map { Folding.Entry(path: $0, outcome: outcomes[$0] ?? .kept("it was not looked at")) }
  }

  private mutating func fold(
    _ path: String, forward: Bool, _ outcome: (String) -> Folding.Entry.Outcome
  ) -> Folding.Entry.Outcome {
    guard let index = stages.firstIndex(where: { $0.path == path }), let norm = stages[index].norm else {
      return .kept("it was not looked at")
    }
    do throws(Obstacle) {
      let map = try ChannelMap(norm)
      let (neighbour, flattens) = try linear(from: index, forward: forward)
      guard var linear = stages[neighbour].linear else { return .kept("it was not looked at") }
      if forward {
        let channel = try stages[index].input.channels(of: norm, for: linear, flattens: flattens)
        try linear.prepend(map, channel, tolerance)
      } else {
        try stages[index].input.expectLast(norm, after: linear, flattens: flattens)
        try linear.append(map, tolerance)
      }
      stages[neighbour].linear = linear
      stages.remove(at: index)
      return outcome(stages[forward ? neighbour - 1 : neighbour].path)
    } catch {
      return .kept(error.reason)
    }
  }

  /// The linear layer beside a stage, with nothing but flattening in between.
  private func linear(from index: Int, forward: Bool) throws(Obstacle) -> (index: Int, flattens: Bool) {
    var (place, flattens) = (index, false)
    while true {
      place += forward ? 1 : -1
      guard stages.indices.contains(place) else {
        throw Obstacle("no linear layer stands \(forward ? "after" : "before") it")
      }
      if stages[place].linear != nil { return (place, flattens) }
      guard stages[place].layer is Flatten else {
        let kind = String(describing: type(of: stages[place].layer))
        let side = forward ? "after" : "before"
        throw Obstacle("right \(side) it stands \(stages[place].path) (\(kind)), not a linear layer")
      }
      flattens = true
    }
  }

  /// A new model of the stages that are left.
  func model() throws -> Model {
    let layers = try stages.map { stage -> any Layer in
      if let linear = stage.linear { return try linear.layer() }
      guard let copy = stage.layer.configuration?.makeLayer() else {
        throw SettingsError("fold", "expects a network of Keel's own layers, got \(stage.path)")
      }
      Model(copy).copyVariables(of: Model(stage.layer))
      return copy
    }
    return Model(Sequential(layers))
  }
}

/// Why something can't be folded.
struct Obstacle: Error {
  let reason: String
  init(_ reason: String) { self.reason = reason }
}

extension Model {
  /// Takes over values and what is frozen, for a model of the same layers.
  fileprivate func copyVariables(of model: Model) {
    for (new, old) in zip(parameters, model.parameters) { (new.value, new.isTrainable) = (old.value, old.isTrainable) }
    for (new, old) in zip(runningStatistics, model.runningStatistics) {
      (new.value, new.isFrozen) = (old.value, old.isFrozen)
    }
  }
}

/// What is known of a layer's input before it is called.
struct KnownShape {
  /// With the batch axis, whose extent means nothing.
  private(set) var shape: Shape?
  private(set) var rank: Int?

  init() {}
  init(rank: Int) { self.rank = rank }
  init(_ shape: Shape) { (self.shape, rank) = (shape, shape.rank) }

  /// The axis of the channels from the front; nil for the last one.
  private func innerAxis(of norm: BatchNorm) throws(Obstacle) -> Int? {
    let axis = norm.options.axis
    if axis == -1 { return nil }
    guard let rank else {
      throw Obstacle("its channels are on axis \(axis) and the rank of its input is not known: give the sample's shape")
    }
    let resolved = axis < 0 ? axis + rank : axis
    if resolved == 0 { throw Obstacle("its channels are on the axis of the samples") }
    return resolved == rank - 1 ? nil : resolved
  }

  /// Throws unless the channels of `norm`, which stands behind `linear`, are the outputs of that.
  func expectLast(_ norm: BatchNorm, after linear: FoldedLinear, flattens: Bool) throws(Obstacle) {
    if try innerAxis(of: norm) != nil {
      throw Obstacle("its channels are on axis \(norm.options.axis), those of the linear layer before it on the last")
    }
    guard norm.options.channels == linear.outputs else {
      throw Obstacle(
        "it has \(norm.options.channels) channels\(flattens ? " after flattening" : ""), the linear layer before it "
          + "\(linear.outputs)")
    }
  }

  /// Channel of `norm` for each feature of `linear`, which stands behind it.
  func channels(of norm: BatchNorm, for linear: FoldedLinear, flattens: Bool) throws(Obstacle) -> [Int] {
    let (count, features) = (norm.options.channels, linear.inputs)
    var stride = 1
    if let axis = try innerAxis(of: norm) {
      guard let shape else {
        throw Obstacle("its channels are on axis \(axis), not the last, and the sample's shape is not known")
      }
      let sample = shape.dimensions.dropFirst()
      // As `Linear` decides whether it takes samples flat.
      guard flattens || (sample.last != features && sample.reduce(1, *) == features) else {
        throw Obstacle("its channels are on axis \(axis) of \(shape), the linear layer after it takes the last")
      }
      stride = shape.dimensions.dropFirst(axis + 1).reduce(1, *)
    }
    guard count > 0, stride > 0, features % (count * stride) == 0 else {
      throw Obstacle("its \(count) channels do not go into the \(features) features of the linear layer after it")
    }
    return (0..<features).map { $0 / stride % count }
  }
}
