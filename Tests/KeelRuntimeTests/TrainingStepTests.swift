import KeelCore
import KeelGraph
import KeelPrimitives
import KeelRuntime
import Testing

@Suite(.serialized) @MainActor struct TrainingStepTests {
  /// Inputs that a training loop could have: second moments are not negative, the cursor is at the start.
  private func inputs(_ graph: Graph) throws -> [String: HostTensor] {
    try graph.randomInputs().mapValues { $0 }.reduce(into: [:]) { result, entry in
      let (name, values) = entry
      let fitting =
        name.hasPrefix("secondMoment") || name == "running variance" || name == "rates"
        ? values.doubles.map { abs($0) * 0.1 } : name == "cursor" ? [0, 0, 0] : values.doubles
      result[name] = try HostTensor(values.type, values: fitting)
    }
  }

  private func store(_ graph: Graph, _ context: ComputeContext, guardBytes: Int = 0) throws -> VariableStore {
    let store = VariableStore(context, guardBytes: guardBytes)
    try store.declare(graph.inputs.map { Variable($0.input.label, $0.type, $0.input.role) })
    for (name, values) in try inputs(graph) { try store.write(name, values) }
    return store
  }

  private func everything(_ executable: Executable, _ store: VariableStore, _ graph: Graph) throws -> [String:
    HostTensor]
  {
    var values: [String: HostTensor] = [:]
    for output in graph.outputs { values["output " + output.name] = try executable.output(output.name) }
    for input in graph.inputs { values[input.input.label] = try store.read(input.input.label) }
    return values
  }

  /// The whole step, fused and unfused, with and without guards, three times in a row, against the interpreter.
  @Test(arguments: [DType.float32, .float64]) func stepIsRightHoweverItIsCompiled(_ dtype: DType) throws {
    let graph = try trainingStep(dtype)
    let interpreter = try Interpreter(graph)
    #expect(!Devices.contexts.isEmpty, "no OpenCL device")
    for context in Devices.contexts {
      if dtype == .float64, !context.profile.hasFP64 {
        print("skipped: \(context.profile.name) has no double precision")
        continue
      }
      for (fuses, merges, guardBytes) in [
        (true, true, 0), (true, false, 256), (true, true, 256), (false, false, 0), (false, false, 256),
      ] {
        var options = Executable.Options()
        options.fuses = fuses
        options.merges = merges
        options.guardBytes = guardBytes
        let store = try store(graph, context, guardBytes: guardBytes)
        let executable = try Executable(graph, variables: store, options: options)
        var host = try inputs(graph).mapValues(\.doubles)
        for step in 0..<3 {
          try executable.run()
          let reference = try interpreter.run(host)
          host.merge(reference.variables) { $1 }
          for (name, values) in reference.outputs.merging(reference.variables, uniquingKeysWith: { $1 }) {
            let isOutput = graph.outputs.contains { $0.name == name }
            let got = (isOutput ? try executable.output(name) : try store.read(name)).doubles
            let error = zip(got, values).map { abs($0 - $1) }.max() ?? .infinity
            let scale = max(1, values.map { abs($0) }.max() ?? 1)
            #expect(got.count == values.count)
            #expect(
              error <= scale * (dtype == .float64 ? 1e-11 : 2e-4),
              "\(name), step \(step), fuses \(fuses), merges \(merges), guards \(guardBytes): error \(error)")
          }
          #expect(try executable.brokenGuards() == [])
        }
        #expect(try store.read("cursor").doubles == [39, 3, 3])
      }
    }
  }

  /// Same start, same bits: from another executable, and from a run that shares memory between values or does not.
  @Test func sameStartGivesTheSameBits() throws {
    let graph = try trainingStep(.float32)
    for context in Devices.contexts {
      func run(guardBytes: Int, merges: Bool = true) throws -> [String: HostTensor] {
        var options = Executable.Options()
        options.guardBytes = guardBytes
        options.merges = merges
        let store = try store(graph, context, guardBytes: guardBytes)
        let executable = try Executable(graph, variables: store, options: options)
        for _ in 0..<4 { try executable.run() }
        return try everything(executable, store, graph)
      }
      let first = try run(guardBytes: 0)
      #expect(first.count > 30)
      #expect(first == (try run(guardBytes: 0)))
      #expect(first == (try run(guardBytes: 256)))
      #expect(first == (try run(guardBytes: 0, merges: false)))
    }
  }

  /// Fusion leaves no elementwise launch between the products and what follows them.
  @Test func epiloguesAndProloguesAreFused() throws {
    let context = try #require(Devices.contexts.first)
    let builder = GraphBuilder(mode: .training)
    let (x, w) = (builder.input("x", TensorType([12, 7])), builder.input("w", TensorType([7, 10])))
    let (scale, shift) = (builder.input("scale", TensorType([10])), builder.input("shift", TensorType([10])))
    let bias = builder.input("bias", TensorType([10]))
    let normalized = builder.append(
      .batchNormTraining(BatchNormTraining(axis: 1, epsilon: 1e-5)),
      [(x.matMul(w) + bias).elementwise(.tanh), scale, shift])[0]
    builder.output("y", normalized.elementwise(.elu, 1.0))
    let graph = try builder.graph()
    let store = try VariableStore.filled(for: graph, context)
    #expect(
      try Executable(graph, variables: store, options: .init()).variants.map { $0.prefix { $0 != "." } }
        == ["gemm", "batchNormForward"])
    var options = Executable.Options()
    options.fuses = false
    #expect(try Executable(graph, variables: store, options: options).variants.count > 10)
  }

  /// Each pass that may be left out can be, and the results are the same but for rounding.
  @Test func passesCanBeLeftOut() throws {
    let graph = try trainingStep(.float64)
    for context in Devices.contexts where context.profile.hasFP64 {
      func results(without omitted: Set<String>) throws -> (Graph, [String: HostTensor]) {
        let store = try store(graph, context)
        var options = Executable.Options()
        options.omittedPasses = omitted
        let executable = try Executable(graph, variables: store, options: options)
        try executable.run()
        return (executable.graph, try everything(executable, store, graph))
      }
      let (whole, reference) = try results(without: [])
      var needed: Set<String> = []
      for name in Pipeline.optional {
        let (reduced, values) = try results(without: [name])
        if reduced != whole { needed.insert(name) }
        for (label, value) in values {
          let apart = zip(value.doubles, reference[label]?.doubles ?? []).map { abs($0 - $1) }.max() ?? 0
          #expect(apart < 1e-9, "\(label) without \(name): \(apart)")
        }
      }
      #expect(needed.isSuperset(of: ["softmaxWithGradient", "fuseElementwise", "fuseEpilogue", "fusePrologue"]))
    }
  }
}
