import KeelCore

/// Deeper sums wait in memory between two parts of theirs, where the gradient has no place.
private let deepestBytes = 2048

/// Whether an update is made in the product, by its rule, the elements of the matrix, and the terms of each sum.
private typealias Choice = @Sendable (_ rule: UpdateRule, _ elements: Int, _ terms: Int) -> Bool

extension Pass {
  /// ``fuseEveryUpdate`` where it was measured to pay on a CPU: plain gradient descent of a matrix of 4 MiB and more,
  /// whose gradient is a sum of 64 terms at most. There memory's time counts. An optimizer with slots is faster by itself,
  /// in long runs; longer sums hide what memory takes; and a smaller matrix is in a cache when its update comes.
  public static let fuseUpdate = fusingUpdates { rule, elements, terms in
    rule.slots.isEmpty && elements >= 1 << 20 && terms <= 64
  }

  /// Updates a parameter in the kernel of the product that is its gradient, where nobody else reads that: parameter and
  /// slots pass through memory once, and the gradient never.
  ///
  /// The update stands behind the last node that reads the old parameter, so that the product's operands are needed no
  /// longer than that. What is left of the optimizer's step is as it was.
  public static let fuseEveryUpdate = fusingUpdates { _, _, _ in true }

  private static func fusingUpdates(_ choice: @escaping Choice) -> Pass {
    Pass("fuseUpdate") { graph throws(GraphError) in try movingUpdates(graph, choice) }
  }
}

private func movingUpdates(_ graph: Graph, _ choice: Choice) throws(GraphError) -> Graph {
  var graph = graph
  let count = graph.nodes.count
  let (readers, results) = (graph.readers(), graph.results)
  let storageReaders = graph.storageReaders()
  // Nodes of the new graph that come right behind one of the old; behind −1 those without operands.
  var followers: [Int: [Int]] = [:]

  for index in 0..<count {
    let node = graph.nodes[index]
    guard case .optimizerStep(let step) = node.operation else { continue }
    let variables = Set(step.inPlace.map { graph.storage(of: node.inputs[$0.operand]) })
    var kept: [Int] = []
    var moved: [Value: Value] = [:]
    for parameter in 0..<step.count {
      let gradient = node.inputs[step.gradients.lowerBound + parameter]
      let producer = graph.nodes[gradient.node]
      // The parameter, then its slots.
      let changed = ([step.parameters] + step.rule.slots.indices.map(step.slot)).map {
        node.inputs[$0.lowerBound + parameter]
      }
      guard case .matMul(let product) = producer.operation,
        case let terms = product.extents(
          graph.type(of: producer.inputs[0]).shape, graph.type(of: producer.inputs[1]).shape
        ).k,
        terms * producer.types[0].dtype.byteCount <= deepestBytes,
        choice(step.rule, producer.types[0].count, terms), readers[gradient] == [index], !results.contains(gradient),
        variables.isDisjoint(with: producer.inputs.map { graph.storage(of: $0) })
      else {
        kept.append(parameter)
        continue
      }
      let update = MatMulUpdate(product, step.rule, isGuarded: step.isGuarded)
      let guardOperand = step.guardPosition.map { [node.inputs[$0]] } ?? []
      let inputs = producer.inputs + node.inputs[..<2] + changed + guardOperand
      graph.nodes.append(
        Node(
          operation: .matMulUpdate(update), inputs: inputs, types: changed.map { graph.type(of: $0) },
          path: producer.path))
      let place =
        inputs.filter { !graph.nodes[$0.node].inputs.isEmpty }.map(\.node)
        + changed.compactMap { storageReaders[graph.storage(of: $0)]?.last { $0 != index } }
      followers[place.max() ?? -1, default: []].append(graph.nodes.count - 1)
      for output in changed.indices {
        moved[Value(node: index, output: output * step.count + parameter)] = Value(
          node: graph.nodes.count - 1, output: output)
      }
    }
    if kept.count == step.count { continue }
    graph.keep(kept, of: index, step, &moved)
    graph.replace(moved, in: 0..<graph.nodes.count)
  }
  if followers.isEmpty { return graph }
  var order = graph.nodes[..<count].indices.filter { graph.nodes[$0].inputs.isEmpty } + followers[-1, default: []]
  for index in 0..<count {
    if !graph.nodes[index].inputs.isEmpty { order.append(index) }
    order += followers[index, default: []]
  }
  return try Pass.deadCode.run(graph.selecting(order))
}

extension Graph {
  /// For the storage of each value the nodes that read it, in order.
  fileprivate func storageReaders() -> [Value: [Int]] {
    var readers: [Value: [Int]] = [:]
    for (index, node) in nodes.enumerated() {
      for input in node.inputs { readers[storage(of: input), default: []].append(index) }
    }
    return readers
  }

  /// Leaves only the parameters `kept` to the optimizer's step `index`; `moved` gets where their results went.
  fileprivate mutating func keep(_ kept: [Int], of index: Int, _ step: OptimizerStep, _ moved: inout [Value: Value]) {
    let node = nodes[index]
    var rest = OptimizerStep(step.rule, count: kept.count)
    rest.isGuarded = step.isGuarded
    let kinds = [step.parameters, step.gradients] + step.rule.slots.indices.map(step.slot)
    nodes[index].operation = .optimizerStep(rest)
    nodes[index].inputs = Array(node.inputs[..<2])
    for kind in kinds { nodes[index].inputs += kept.map { node.inputs[kind.lowerBound + $0] } }
    if let asked = step.guardPosition { nodes[index].inputs.append(node.inputs[asked]) }
    nodes[index].types = (0...step.rule.slots.count).flatMap { kind in kept.map { node.types[kind * step.count + $0] } }
    for kind in 0...step.rule.slots.count {
      for (new, old) in kept.enumerated() {
        moved[Value(node: index, output: kind * step.count + old)] = Value(
          node: index, output: kind * kept.count + new)
      }
    }
  }
}
