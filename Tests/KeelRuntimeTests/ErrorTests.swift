import KeelCore
import KeelGraph
import KeelPrimitives
import KeelRuntime
import Testing

@Suite(.serialized) @MainActor struct ErrorTests {
  private func doubling() throws -> Graph {
    let builder = GraphBuilder()
    builder.output("y", builder.scope("layers.0") { builder.input("x", TensorType([4])) * 2.0 })
    return try builder.graph()
  }

  @Test func unknownOutput() throws {
    let context = try #require(Devices.contexts.first)
    let graph = try doubling()
    let executable = try Executable(graph, variables: .filled(for: graph, context), options: .init())
    let error = #expect(throws: ExecutableError.self) { try executable.output("z") }
    #expect(error?.description == "[executable] no output z; there are y")
  }

  @Test func missingVariableAndVariableOfAnotherType() throws {
    let context = try #require(Devices.contexts.first)
    let graph = try doubling()
    let store = VariableStore(context)
    let missing = #expect(throws: ExecutableError.self) { try Executable(graph, variables: store, options: .init()) }
    #expect(missing?.description == "[executable] x expects f32[4], got no such variable")
    try store.declare([Variable("x", TensorType([5]), .data)])
    let other = #expect(throws: ExecutableError.self) { try Executable(graph, variables: store, options: .init()) }
    #expect(other?.description == "[executable] x expects f32[4], got f32[5]")
    // Data may change its type between two graphs.
    try store.declare([Variable("x", TensorType([4]), .data)])
    _ = try Executable(graph, variables: store, options: .init())
  }

  @Test func forcedVariantThatIsNone() throws {
    let context = try #require(Devices.contexts.first)
    let graph = try doubling()
    var options = Executable.Options()
    options.variants = ["elementwise": "magic"]
    let store = try VariableStore.filled(for: graph, context)
    let error = #expect(throws: ExecutableError.self) { try Executable(graph, variables: store, options: options) }
    #expect(error?.underlying is VariantUnavailable)
    let text = error?.description ?? ""
    #expect(text.contains("layers.0") && text.contains("magic") && text.contains("blocks, naive"), "\(text)")
  }

  @Test func graphThatIsWrong() throws {
    let builder = GraphBuilder()
    let x = builder.input("x", TensorType([4, 3]))
    builder.output("y", builder.scope("layers.1") { x.matMul(x) })
    let error = #expect(throws: GraphError.self) { try builder.graph() }
    #expect(error?.description == "[matMul] layers.1: expects inner extents that agree, got [4, 3] · [4, 3]")
  }

  @Test func variablesSayWhatTheyExpect() throws {
    let context = try #require(Devices.contexts.first)
    let store = VariableStore(context)
    try store.declare([Variable("w", TensorType([2]), .parameter), Variable("n", TensorType([1], .int32), .control)])
    #expect(try store.read("w").floats == [0, 0])
    let unknown = #expect(throws: VariableStore.Failure.self) { try store.read("v") }
    #expect(unknown?.description == "[variables] no v; there are n, w")
    let other = #expect(throws: VariableStore.Failure.self) { try store.write("w", HostTensor([3], [Float(1), 2, 3])) }
    #expect(other?.description == "[variables] w expects f32[2], got f32[3]")
    #expect(throws: VariableStore.Failure.self) { try store.write("n", HostTensor([1], [Float(1)])) }
    #expect(throws: VariableStore.Failure.self) { try store.declare([Variable("w2", TensorType([2]), .parameter)]) }
  }

  @Test func moreThanTheDeviceHolds() throws {
    let context = try #require(Devices.contexts.first)
    let store = VariableStore(context)
    let count = context.profile.maxAllocationBytes / 4 + 1
    let error = #expect(throws: VariableStore.Failure.self) {
      try store.declare([Variable("w", TensorType([count]), .parameter)])
    }
    #expect(error?.description.contains("[variables] parameter of") == true)
  }

  @Test func optionsComeFromTheEnvironment() {
    let standard = Executable.Options(environment: [:])
    #expect(standard.fuses && standard.dumps.isEmpty && standard.debugLevel == 0 && standard.guardBytes == 0)
    let options = Executable.Options(
      environment: ["KEEL_FUSE": "0", "KEEL_DUMP": "trace,plan", "KEEL_DEBUG": "2"])
    #expect(!options.fuses && options.dumps == ["trace", "plan"] && options.debugLevel == 2)
    #expect(Executable.Options(environment: ["KEEL_FUSE": "1", "KEEL_DEBUG": ""]).fuses)
    #expect(
      standard.merges && !Executable.Options().merges && !Executable.Options(environment: ["KEEL_MERGE": "0"]).merges)
  }

  @Test func valuesThatAreNone() throws {
    let graph = try doubling()
    let context = try #require(Devices.contexts.first)
    let store = try VariableStore.filled(for: graph, context)
    for (variable, value, expected) in [
      ("KEEL_FUSE", "off", "[executable] KEEL_FUSE expects 0 or 1, got off"),
      ("KEEL_MERGE", "2", "[executable] KEEL_MERGE expects 0 or 1, got 2"),
      ("KEEL_DEBUG", "much", "[context] KEEL_DEBUG expects 0, 1 or 2, got much"),
      ("KEEL_DEBUG", "3", "[context] KEEL_DEBUG expects 0, 1 or 2, got 3"),
    ] {
      let options = Executable.Options(environment: [variable: value])
      let error = #expect(throws: ExecutableError.self) { try Executable(graph, variables: store, options: options) }
      #expect(error?.description == expected)
    }
    let error = #expect(throws: PrimitiveError.self) {
      try ComputeContext(
        context.device, environment: ["KEEL_DEBUG": "much", "KEEL_CACHE_DIR": "", "KEEL_TUNE_DIR": ""])
    }
    #expect(error?.description == "[context] KEEL_DEBUG expects 0, 1 or 2, got much")
  }

  /// Stages and families that do not exist would have no effect.
  @Test func namesThatAreNone() throws {
    let graph = try trainingStep(.float32)
    let store = try VariableStore.filled(for: graph, try #require(Devices.contexts.first))
    var options = Executable.Options(environment: ["KEEL_DUMP": "trace, plans"])
    let stage = #expect(throws: ExecutableError.self) { try Executable(graph, variables: store, options: options) }
    #expect(
      stage?.description == "[executable] KEEL_DUMP expects stages out of trace, decompose, canonicalize, deadCode, "
        + "materialize, commonSubexpressions, leadingBatchNorm, softmaxWithGradient, fuseElementwise, fuseEpilogue, "
        + "fusePrologue, fuseBatchNorm, fuseUpdate, plan, launches, all, got plans")
    options = Executable.Options(environment: ["KEEL_OMIT": "deadCode"])
    let pass = #expect(throws: ExecutableError.self) { try Executable(graph, variables: store, options: options) }
    #expect(
      pass?.description.hasPrefix("[executable] KEEL_OMIT expects passes out of commonSubexpressions, fuse") == true)
    #expect(pass?.description.hasSuffix("got deadCode") == true)
    #expect(Executable.Options(environment: [:]).omittedPasses == ["fuseBatchNorm"])
    options = Executable.Options(environment: ["KEEL_PASSES": "fuseBatchNorm", "KEEL_OMIT": "fuseUpdate"])
    #expect(options.omittedPasses == ["fuseUpdate"])
    options = Executable.Options(environment: ["KEEL_PASSES": "fuseUpdate"])
    let added = #expect(throws: ExecutableError.self) { try Executable(graph, variables: store, options: options) }
    #expect(added?.description == "[executable] KEEL_PASSES expects passes out of fuseBatchNorm, got fuseUpdate")
    options = Executable.Options()
    options.variants = ["gem": "naive"]
    let family = #expect(throws: ExecutableError.self) { try Executable(graph, variables: store, options: options) }
    #expect(
      family?.description.hasSuffix("softmaxCrossEntropy, transpose, got gem") == true, "\(String(describing: family))")
  }

  @Test func profileHasALineALaunch() throws {
    let graph = try trainingStep(.float32)
    let context = try #require(Devices.contexts.first)
    let store = try VariableStore.filled(for: graph, context)
    try store.write("cursor", HostTensor([3], [Int32(0), 0, 0]))
    let executable = try Executable(graph, variables: store, options: .init())
    let times = try executable.profile()
    #expect(times.map(\.label) == executable.launches.map(\.label))
    #expect(times.allSatisfy { $0.seconds > 0 })
  }
}
