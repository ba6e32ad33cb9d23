import KeelCore
import KeelGraph
import KeelPrimitives
import KeelRuntime
import Testing

/// Training steps with the optimizer in the products that make the gradients, and without: the same formula on the same
/// gradients.
@Suite(.serialized) @MainActor struct FusedUpdateTests {
  /// A step on two layers; the first weight has whole and ragged tiles.
  private func step(_ rule: UpdateRule, _ dtype: DType = .float32) throws -> Graph {
    let builder = GraphBuilder(mode: .training, dtype: dtype)
    func input(_ name: String, _ shape: Shape, _ role: Role) -> Tensor {
      builder.input(name, TensorType(shape, dtype), role: role)
    }
    let parameters = [("w", [40, 35]), ("b", [35]), ("v", [35, 3])].map { input($0.0, Shape($0.1), .parameter) }
    let hidden = (input("x", [20, 40], .data).matMul(parameters[0]) + parameters[1]).elementwise(.tanh)
    let loss = hidden.matMul(parameters[2]).elementwise(.square).mean()
    let gradients = builder.gradients(of: loss, withRespectTo: parameters)
    let slots = rule.slots.flatMap { slot in
      parameters.enumerated().map { input("\(slot) \($0.offset)", $0.element.shape, .optimizerSlot) }
    }
    let cursor = builder.input("cursor", Cursor.type, role: .control)
    let moved = builder.append(
      .optimizerStep(OptimizerStep(rule, count: 3)),
      [input("rates", [8], .control), cursor] + parameters + gradients + slots)
    for (old, new) in zip(parameters + slots, moved) { builder.update(old, with: new) }
    builder.guardUpdates(by: loss)
    let history = input("history", [8, 1], .control)
    let recorded = builder.append(.record(Record(rows: 0)), [history, cursor, loss])
    builder.update(cursor, with: recorded[1])
    builder.output("loss", loss)
    return try builder.graph()
  }

  /// The graph with its optimizer in its products, however small they are.
  private func fused(_ graph: Graph) throws -> Graph {
    try Pass.fuseEveryUpdate.run(Pass.deadCode.run(Pass.canonicalize.run(graph)))
  }

  private func inputs(_ graph: Graph) throws -> [String: HostTensor] {
    var values: [String: HostTensor] = [:]
    for (stream, name) in ["w", "b", "v", "x"].enumerated() {
      guard let type = graph.inputs.first(where: { $0.input.label == name })?.type else { continue }
      var random = Philox(seed: 5, stream: UInt64(stream))
      values[name] = try HostTensor(type, values: (0..<type.count).map { _ in 0.3 * random.nextNormal() })
    }
    return values
  }

  /// Variables after some steps.
  private func train(
    _ graph: Graph, variant: String? = nil, merges: Bool = false, _ context: ComputeContext, infinite: Bool = false
  ) throws -> (variables: [String: HostTensor], executable: Executable) {
    let store = VariableStore(context)
    try store.declare(graph.inputs.map { Variable($0.input.label, $0.type, $0.input.role) })
    for (name, values) in try inputs(graph) { try store.write(name, values) }
    try store.write(
      "rates", HostTensor(TensorType([8], graph.nodes[0].types[0].dtype), values: Array(repeating: 0.01, count: 8)))
    if infinite {
      var values = try store.read("x").doubles
      values[7] = .infinity
      values[8] = -.infinity
      try store.write("x", HostTensor(try store.read("x").type, values: values))
    }
    var options = Executable.Options()
    options.merges = merges
    if let variant { options.variants = [GemmProblem.family: variant] }
    let executable = try Executable(graph, variables: store, options: options)
    for _ in 0..<5 { try executable.run() }
    var variables: [String: HostTensor] = [:]
    for input in graph.inputs { variables[input.input.label] = try store.read(input.input.label) }
    return (variables, executable)
  }

  @Test(arguments: [
    UpdateRule.sgd(momentum: 0, nesterov: false, weightDecay: 0.01),
    .sgd(momentum: 0.9, nesterov: true, weightDecay: 0),
    .adam(beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0.01),
  ])
  func bitsAreThoseOfTheFlatUpdate(_ rule: UpdateRule) throws {
    for context in Devices.contexts {
      for dtype in [DType.float32] + (context.profile.hasFP64 ? [.float64] : []) {
        let graph = try step(rule, dtype)
        for variant in (KernelFamilies.variants[GemmProblem.family] ?? []) + [nil] {
          // A product whose K is in slices takes no update, nor one that packs a B that is not transposed.
          if let variant,
            ["split", "panels"].contains(variant) || ["packed", "direct"].contains(variant) && !context.profile.isCPU
          {
            continue
          }
          let flat = try train(graph, variant: variant, context)
          #expect(flat.executable.graph.nodes.allSatisfy { $0.operation.rules.name != "matMulUpdate" })
          // Each merged program is compiled for its graph alone.
          for merges in variant == nil && dtype == .float32 ? [false, true] : [false] {
            let inProducts = try train(fused(graph), variant: variant, merges: merges, context)
            #expect(inProducts.executable.graph.nodes.count { $0.operation.rules.name == "matMulUpdate" } == 2)
            #expect(inProducts.variables == flat.variables, "\(variant ?? "any"), \(dtype), merges \(merges)")
          }
        }
      }
    }
  }

  /// What is left is one launch: the matrices lie elsewhere.
  @Test func theRestIsOneFlatLaunch() throws {
    for context in Devices.contexts {
      let graph = try fused(step(.adam(beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0)))
      let (_, executable) = try train(graph, context)
      #expect(executable.launches.count { $0.label.hasPrefix("adam") } == 1)
    }
  }

  @Test func infiniteLossChangesNothing() throws {
    for context in Devices.contexts {
      let graph = try fused(step(.adam(beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0.01)))
      let before = try train(graph, context)
      let (after, executable) = try train(graph, context, infinite: true)
      #expect(try !executable.output("loss").doubles[0].isFinite)
      let start = try inputs(graph)
      for name in ["w", "b", "v"] { #expect(after[name] == start[name] && before.variables[name] != start[name]) }
      #expect(after["firstMoment 0"]?.doubles.allSatisfy { $0 == 0 } == true)
    }
  }

  /// Whoever shows or reads the old parameter gets the old one.
  @Test func theOldParameterCanBeShown() throws {
    let builder = GraphBuilder()
    let (w, slot) = (
      builder.input("w", TensorType([3, 2]), role: .parameter),
      builder.input("slot", TensorType([3, 2]), role: .optimizerSlot)
    )
    let gradient = builder.input("x", TensorType([4, 3])).matMul(
      builder.input("dy", TensorType([4, 2])), transposeA: true)
    let moved = builder.append(
      .optimizerStep(OptimizerStep(.sgd(momentum: 0.5, nesterov: false, weightDecay: 0), count: 1)),
      [builder.input("rates", TensorType([1]), role: .control), builder.input("cursor", Cursor.type, role: .control)]
        + [w, gradient, slot])
    builder.update(w, with: moved[0])
    builder.output("before", w)
    builder.output("sum", w.sum())
    builder.output("after", moved[0])
    builder.output("slot", moved[1])
    let graph = try fused(builder.graph())
    for context in Devices.contexts {
      let store = try VariableStore.filled(for: graph, context)
      try store.write("cursor", HostTensor([3], [Int32(0), 0, 0]))
      let values = Dictionary(
        uniqueKeysWithValues: try graph.inputs.map { ($0.input.label, try store.read($0.input.label).doubles) })
      let reference = try Interpreter(graph).run(values)
      let executable = try Executable(graph, variables: store, options: .init())
      #expect(executable.graph.nodes.contains { $0.operation.rules.name == "matMulUpdate" })
      try executable.run()
      for (name, expected) in reference.outputs {
        let got = try executable.output(name).doubles
        #expect(zip(got, expected).allSatisfy { abs($0 - $1) < 1e-5 }, "\(name): \(got), expected \(expected)")
      }
      #expect(try store.read("w") == executable.output("after"))
      #expect(try store.read("slot").doubles == values["slot"])
    }
  }
}
