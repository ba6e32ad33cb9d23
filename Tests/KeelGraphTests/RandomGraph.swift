import KeelCore
import KeelGraph

/// Small graphs from a seed, for properties that must hold of every graph.
struct RandomGraph {
  private var random: Philox
  private let builder: GraphBuilder
  private var pool: [Tensor] = []

  private init(_ seed: UInt64, _ name: String) {
    random = Philox(seed: seed, stream: 1)
    builder = GraphBuilder(name: name, mode: .training)
  }

  private mutating func pick<Element>(_ elements: [Element]) -> Element {
    elements[random.nextIndex(below: elements.count)]
  }
  private mutating func chance(_ percent: Int) -> Bool { random.nextIndex(below: 100) < percent }

  /// Two dozen operations of every kind over a handful of inputs and constants; some outputs, updates, gradients.
  static func any(seed: UInt64) throws -> Graph {
    var trace = RandomGraph(seed, "random\(seed)")
    let builder = trace.builder
    for (name, shape) in [("a", [4, 3]), ("b", [4, 3]), ("c", [3]), ("d", [4, 1]), ("e", [3, 4])] as [(String, Shape)] {
      trace.pool.append(builder.input(name, TensorType(shape), role: .parameter))
    }
    for value in [0.0, 1, 0.5] { trace.pool.append(builder.constant(value, trace.pick([[], [3], [4, 3]]))) }
    let sources = Array(trace.pool[..<5])
    for step in 0..<24 { builder.scope("s\(step)") { trace.grow() } }
    for index in 0..<3 { builder.output("y\(index)", trace.pick(trace.pool)) }
    for source in sources where trace.chance(30) {
      if let value = trace.pool.last(where: { $0.type == source.type }) { builder.update(source, with: value) }
    }
    if trace.chance(60) {
      let loss = trace.pool.suffix(4).reduce(builder.constant(0)) { $0 + $1.mean() }
      for (index, gradient) in builder.gradients(of: loss, withRespectTo: sources).enumerated() {
        builder.output("d\(index)", gradient)
      }
    }
    return try builder.graph()
  }

  /// Appends one operation whose results stay of moderate size.
  private mutating func grow() {
    let x = pick(pool)
    switch random.nextIndex(below: 12) {
    case 0...2:
      let bounded: [ElementwiseName] = [.copy, .negate, .absolute, .tanh, .sigmoid, .relu]
      pool.append(x.elementwise(pick(bounded)))
    case 3:
      let positive = x.elementwise(.square) + 0.5
      let tamed: [ElementwiseName] = [.squareRoot, .reciprocalSquareRoot, .reciprocal, .log]
      pool.append(positive.elementwise(pick(tamed)))
    case 4...6:
      let y = pick(pool)
      guard let shape = x.shape.broadcast(with: y.shape), shape.count <= 60 else { return }
      let names: [ElementwiseName] = [.add, .subtract, .multiply, .maximum, .minimum, .greater]
      pool.append(x.elementwise(pick(names), y).elementwise(pick([.tanh, .negate, .copy])))
    case 7:
      let y = pick(pool)
      guard x.shape == y.shape else { return }
      pool.append(x.elementwise(.greater, 0.1).elementwise(.select, y, x * 1.0) + 0.0)
    case 8:
      guard x.shape.rank > 0 else { return pool.append(x.broadcast(to: [4, 3])) }
      let axis = random.nextIndex(below: x.shape.rank)
      let keeping = chance(50)
      pool.append(chance(70) ? x.sum(axes: [axis], keepingDimensions: keeping) * 0.3 : x.max(axes: [axis]))
    case 9:
      let moved = x.shape.rank == 2 ? x.transpose([1, 0]) : x.reshape(Shape([1] + x.shape.dimensions))
      pool.append(chance(50) ? moved : moved.reshape([moved.shape.count]))
    case 10:
      guard let y = pool.last(where: { $0.shape.rank == 2 && x.shape.rank == 2 && $0.shape[0] == x.shape[1] }) else {
        return
      }
      pool.append(x.matMul(y).elementwise(.tanh))
    default:
      guard x.shape.rank == 2, x.shape[0] > 1 else { return }
      let channels = Shape([x.shape[1]])
      let results = builder.append(
        .batchNormTraining(BatchNormTraining(axis: 1, epsilon: 0.1)),
        [
          x, builder.constant(0.7, channels),
          pool.first(where: { $0.shape == channels }) ?? builder.constant(0, channels),
        ])
      pool.append(chance(50) ? results[0].elementwise(.relu) : results[0])
      if chance(40) { pool.append(results[3]) }
    }
  }

  /// One training step of a random multilayer network: gather, layers, loss, gradients, running statistics, optimizer,
  /// record, cursor.
  static func training(seed: UInt64) throws -> Graph {
    var trace = RandomGraph(seed, "training\(seed)")
    let builder = trace.builder
    let (rows, classes) = (trace.pick([2, 3, 4, 5, 6, 8, 9]), 3)
    let cursor = builder.input("cursor", Cursor.type, role: .control)
    let order = builder.input("order", TensorType([9], .int32), role: .control)
    let width = 2 + trace.random.nextIndex(below: 4)
    var x = builder.append(
      .gather(Gather(rows: rows, dtype: .float32, scale: 0.5)),
      [builder.input("features", f32(9, width)), order, cursor])[0]
    let labels = builder.append(
      .gather(Gather(rows: rows, dtype: .int32)), [builder.input("labels", i32(9)), order, cursor])[0]

    var parameters: [(name: String, tensor: Tensor)] = []
    func parameter(_ name: String, _ dimensions: Int...) -> Tensor {
      let tensor = builder.input(builder.path + "." + name, TensorType(Shape(dimensions)), role: .parameter)
      parameters.append((builder.path + "." + name, tensor))
      return tensor
    }
    if rows >= 8 {
      builder.scope("leading") {
        x =
          builder.append(
            .batchNormTraining(BatchNormTraining(axis: 1, epsilon: 1e-2)),
            [x, parameter("scale", width), parameter("shift", width)])[0]
      }
    }
    for layer in 0..<1 + trace.random.nextIndex(below: 3) {
      let wide = trace.chance(40) ? x.shape[1] : 2 + trace.random.nextIndex(below: 4)
      let (normalizes, biased, residual) = (trace.chance(70), trace.chance(40), trace.chance(50))
      let activation = trace.pick([ElementwiseName.relu, .tanh, .sigmoid, .elu])
      builder.scope("\(layer)") {
        let input = x
        x = x.matMul(parameter("weight", x.shape[1], wide))
        if biased { x = x + parameter("bias", wide) }
        if normalizes {
          let results = builder.append(
            .batchNormTraining(BatchNormTraining(axis: 1, epsilon: 1e-2)),
            [x, parameter("scale", wide), parameter("shift", wide)])
          let running = ["runningMean", "runningVariance", "batchesTracked"].map {
            builder.input("\(layer).\($0)", f32(wide), role: .runningStatistic)
          }
          let moved = builder.append(
            .batchNormRunningUpdate(
              BatchNormRunningUpdate(weight: biased ? .cumulative : .fixed(0.1), varianceFactor: 1.5)),
            running + results[1...])
          for (old, new) in zip(running, moved) { builder.update(old, with: new) }
          x = results[0]
        }
        x = activation == .elu ? x.elementwise(.elu, 1.0) : x.elementwise(activation)
        if residual, input.shape == x.shape { x = x + input }
      }
    }
    let logits = builder.scope("head") {
      x.matMul(parameter("weight", x.shape[1], classes)) + parameter("bias", classes)
    }
    let loss = builder.append(.softmaxCrossEntropy(SoftmaxCrossEntropy()), [logits, labels])[0].mean()
    let hits = builder.append(.topOne(TopOne()), [logits, labels])[0].sum()

    let rule = trace.pick([
      UpdateRule.sgd(momentum: 0, nesterov: false, weightDecay: 0.1),
      .sgd(momentum: 0.9, nesterov: true, weightDecay: 0),
      .adam(beta1: 0.9, beta2: 0.99, epsilon: 1e-4, weightDecay: 0),
    ])
    let gradients = builder.gradients(of: loss, withRespectTo: parameters.map(\.tensor))
    let slots = rule.slots.flatMap { slot in
      parameters.map { builder.input("\(slot).\($0.name)", $0.tensor.type, role: .optimizerSlot) }
    }
    let moved = builder.append(
      .optimizerStep(OptimizerStep(rule, count: parameters.count)),
      [builder.input("rates", f32(3), role: .control), cursor] + parameters.map(\.tensor) + gradients + slots)
    for (old, new) in zip(parameters.map(\.tensor) + slots, moved) { builder.update(old, with: new) }
    let history = builder.input("history", f32(3, 2), role: .control)
    builder.guardUpdates(by: loss)
    let recorded = builder.append(.record(Record(rows: rows, nonFinite: .skip)), [history, cursor, loss, hits])
    builder.update(history, with: recorded[0])
    builder.update(cursor, with: recorded[1])
    builder.output("loss", loss)
    return try builder.graph()
  }
}
