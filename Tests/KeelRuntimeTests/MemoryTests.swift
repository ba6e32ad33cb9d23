import KeelCore
import KeelGraph
import KeelPrimitives
import KeelRuntime
import Testing

@Suite(.serialized) @MainActor struct MemoryTests {
  /// Bytes of the activations' buffer, and the nodes between which they are needed.
  private struct Block {
    var label: String
    var bytes: Range<Int>
    var life: ClosedRange<Int>
  }

  /// The blocks of a plan, with lifetimes counted here and not by the planner.
  private func blocks(_ executable: Executable) -> [Block] {
    let graph = executable.graph
    var blocks: [Block] = []
    for (index, node) in graph.nodes.enumerated() {
      if case .reshape = node.operation { continue }
      for output in node.types.indices {
        let value = Value(node: index, output: output)
        guard case .activation(let offset) = executable.plan.locations[value] else { continue }
        // All names of the same bytes: the value, and reshapes of it.
        var names: Set<Value> = [value]
        for (reader, other) in graph.nodes.enumerated() {
          if case .reshape = other.operation, names.contains(other.inputs[0]) { names.insert(Value(node: reader)) }
        }
        var last = index
        for (reader, other) in graph.nodes.enumerated() where other.inputs.contains(where: names.contains) {
          last = reader
        }
        if !names.isDisjoint(with: graph.results) { last = graph.nodes.count }
        blocks.append(
          Block(
            label: "%\(index).\(output)", bytes: offset..<offset + node.types[output].byteCount, life: index...last))
      }
      if let offset = executable.plan.workspaces[index] {
        blocks.append(Block(label: "workspace \(index)", bytes: offset..<offset + 1, life: index...index))
      }
    }
    return blocks
  }

  @Test(arguments: [true, false]) func noTwoLivingValuesShareBytes(_ fuses: Bool) throws {
    let graph = try trainingStep(.float32)
    for context in Devices.contexts {
      var options = Executable.Options()
      options.fuses = fuses
      let store = try VariableStore.filled(for: graph, context)
      let executable = try Executable(graph, variables: store, options: options)
      let blocks = blocks(executable)
      #expect(blocks.count > 5)
      for (position, a) in blocks.enumerated() {
        #expect(a.bytes.lowerBound % context.profile.alignment == 0, "\(a.label)")
        #expect(a.bytes.upperBound <= executable.plan.activationByteCount, "\(a.label)")
        for b in blocks[(position + 1)...] where a.life.overlaps(b.life) {
          #expect(!a.bytes.overlaps(b.bytes), "\(a) and \(b)")
        }
      }
      // Values that are not needed at the same time do share.
      #expect(executable.plan.activationByteCount < executable.plan.unsharedByteCount)
    }
  }

  /// The last reader of a variable computes its new value: it is written where the old one was.
  @Test func updateByTheLastReaderIsInPlace() throws {
    let context = try #require(Devices.contexts.first)
    let builder = GraphBuilder()
    let v = builder.input("v", TensorType([20]), role: .control)
    builder.update(v, with: v * 0.5 + 1.0)
    let graph = try builder.graph()
    let store = try VariableStore.filled(for: graph, context)
    let before = try store.read("v").floats
    let executable = try Executable(graph, variables: store, options: .init())
    #expect(executable.plan.copies.isEmpty && executable.launches.count == 1)
    try executable.run()
    #expect(try store.read("v").floats == before.map { $0 * 0.5 + 1 })
  }

  /// Two variables that change places, and one whose old value is an output: new values wait until all is read.
  @Test func updatesThatOthersReadAreCopied() throws {
    let context = try #require(Devices.contexts.first)
    let builder = GraphBuilder()
    let (a, b) = (
      builder.input("a", TensorType([9]), role: .control), builder.input("b", TensorType([9]), role: .control)
    )
    let c = builder.input("c", TensorType([9]), role: .control)
    builder.update(a, with: b)
    builder.update(b, with: a)
    let next = c + 1.0
    builder.update(c, with: next)
    builder.output("both", c * next)
    let graph = try builder.graph()
    let store = try VariableStore.filled(for: graph, context)
    let (oldA, oldB, oldC) = (try store.read("a"), try store.read("b"), try store.read("c").floats)
    let executable = try Executable(graph, variables: store, options: .init())
    #expect(!executable.plan.copies.isEmpty)
    try executable.run()
    #expect(try store.read("a") == oldB && store.read("b") == oldA)
    #expect(try executable.output("both").floats == oldC.map { $0 * ($0 + 1) })
    #expect(try store.read("c").floats == oldC.map { $0 + 1 })
  }

  /// Parameters lie by size, whatever the order of the layers, and so are they updated.
  @Test(arguments: [
    (UpdateRule.sgd(momentum: 0.9, nesterov: false, weightDecay: 0), 1),
    (.adam(beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0), 2),
  ])
  func parametersAreUpdatedAsTheyLie(_ rule: UpdateRule, _ launches: Int) throws {
    for context in Devices.contexts {
      let builder = GraphBuilder(mode: .training)
      let cursor = builder.input("cursor", Cursor.type, role: .control)
      let rates = builder.input("rates", TensorType([4]), role: .control)
      let types = [TensorType([16, 16]), TensorType([32]), TensorType([8, 8]), TensorType([32])]
      let parameters = types.indices.map { builder.input("p\($0)", types[$0], role: .parameter) }
      let slots = rule.slots.map { slot in
        types.indices.map { builder.input("\(slot)\($0)", types[$0], role: .optimizerSlot) }
      }
      let loss = parameters.map { ($0 * $0).sum() }.reduce(builder.constant(0)) { $0 + $1 }
      let gradients = builder.gradients(of: loss, withRespectTo: parameters)
      let kept = slots.flatMap { $0 }
      let results = builder.append(
        .optimizerStep(OptimizerStep(rule, count: types.count)), [rates, cursor] + parameters + gradients + kept)
      for (old, new) in zip(parameters + kept, results) { builder.update(old, with: new) }
      let graph = try builder.graph()
      let store = try VariableStore.filled(for: graph, context)
      try store.write("cursor", HostTensor([3], [Int32(0), 0, 7]))
      for (slot, index) in slots.indices.flatMap({ slot in types.indices.map { (slot, $0) } }) {
        let count = types[index].count
        try store.write(
          "\(rule.slots[slot])\(index)",
          HostTensor(types[index], values: (0..<count).map { 0.25 + Double(slot + index) / 8 + Double($0) / 1024 }))
      }
      let reference = try Interpreter(graph).run(
        Dictionary(
          uniqueKeysWithValues: try graph.inputs.map { ($0.input.label, try store.read($0.input.label).doubles) }))
      let executable = try Executable(graph, variables: store, options: .init())
      #expect(executable.launches.count { $0.label.hasPrefix("adam") || $0.label.hasPrefix("sgd") } == launches)
      try executable.run()
      for index in types.indices {
        let got = try store.read("p\(index)").doubles
        let error = zip(got, reference.variables["p\(index)"] ?? []).map { abs($0 - $1) }.max() ?? 1
        #expect(error < 1e-5, "p\(index)")
      }
    }
  }

  /// A parameter that the step does not name stays as it is, however small: the optimizer's flat launch passes by.
  @Test(arguments: [
    UpdateRule.sgd(momentum: 0.9, nesterov: false, weightDecay: 0.1),
    .adam(beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0.1),
  ])
  func frozenParametersStay(_ rule: UpdateRule) throws {
    for context in Devices.contexts {
      let builder = GraphBuilder(mode: .training)
      let type = TensorType([5])
      let cursor = builder.input("cursor", Cursor.type, role: .control)
      let rates = builder.input("rates", TensorType([4]), role: .control)
      let parameters = ["p0", "p1", "p2", "p3"].map { builder.input($0, type, role: .parameter) }
      let slots = rule.slots.map { slot in
        parameters.indices.map { builder.input("\(slot)\($0)", type, role: .optimizerSlot) }
      }
      // p1 is frozen.
      let trained = [0, 2, 3]
      let loss = parameters.map { ($0 * $0).sum() }.reduce(builder.constant(0)) { $0 + $1 }
      let gradients = builder.gradients(of: loss, withRespectTo: trained.map { parameters[$0] })
      let operands = trained.map { parameters[$0] }
      let kept = slots.flatMap { slot in trained.map { slot[$0] } }
      let results = builder.append(
        .optimizerStep(OptimizerStep(rule, count: 3)), [rates, cursor] + operands + gradients + kept)
      for (old, new) in zip(operands + kept, results) { builder.update(old, with: new) }
      let graph = try builder.graph()

      let store = try VariableStore.filled(for: graph, context)
      try store.write("cursor", HostTensor([3], [Int32(0), 0, 7]))
      for slot in slots.joined() {
        guard case .input(let input) = graph.nodes[slot.value.node].operation else { continue }
        try store.write(input.label, HostTensor([5], [Float](repeating: 0.5, count: 5)))
      }
      let before = try (0..<4).map { try store.read("p\($0)") }
      let reference = try Interpreter(graph).run(
        Dictionary(
          uniqueKeysWithValues: try graph.inputs.map { ($0.input.label, try store.read($0.input.label).doubles) }))
      let executable = try Executable(graph, variables: store, options: .init())
      try executable.run()
      for index in trained {
        let got = try store.read("p\(index)").doubles
        let error = zip(got, reference.variables["p\(index)"] ?? []).map { abs($0 - $1) }.max() ?? 1
        #expect(error < 1e-5, "p\(index)")
        #expect(try store.read("p\(index)") != before[index])
      }
      #expect(try store.read("p1") == before[1], "a frozen parameter changed")
      for slot in rule.slots { #expect(try store.read("\(slot)1").floats == [0.5, 0.5, 0.5, 0.5, 0.5]) }
    }
  }

  /// An output may be an input, a constant, or the same bytes under another shape.
  @Test func outputsThatNoKernelWrites() throws {
    let context = try #require(Devices.contexts.first)
    let builder = GraphBuilder()
    let x = builder.input("x", TensorType([2, 3]))
    builder.output("input", x)
    builder.output("constant", builder.constant([1, 2, 3], [3]))
    builder.output("shaped", (x + 1.0).reshape([6]))
    builder.output("shaped input", x.reshape([3, 2]))
    let graph = try builder.graph()
    for fuses in [true, false] {
      var options = Executable.Options()
      options.fuses = fuses
      let store = try VariableStore.filled(for: graph, context)
      let executable = try Executable(graph, variables: store, options: options)
      try executable.run()
      let values = try store.read("x").floats
      #expect(try executable.output("input").floats == values)
      #expect(try executable.output("constant").floats == [1, 2, 3])
      #expect(try executable.output("shaped") == HostTensor([6], values.map { $0 + 1 }))
      #expect(try executable.output("shaped input") == HostTensor([3, 2], values))
    }
  }

  @Test func stateIsPreserved() throws {
    let context = try #require(Devices.contexts.first)
    let graph = try trainingStep(.float32)
    let store = try VariableStore.filled(for: graph, context)
    try store.write("cursor", HostTensor([3], [Int32(0), 0, 0]))
    let before = try (store.read("w1"), store.read("running mean"), store.read("firstMoment 0"))
    let executable = try Executable(graph, variables: store, options: .init())
    try store.preservingState {
      try executable.run()
      #expect(try store.read("running mean") != before.1)
    }
    #expect(try store.read("w1") == before.0)
    #expect(try store.read("running mean") == before.1)
    #expect(try store.read("firstMoment 0") == before.2)
  }
}
