import KeelCore
import KeelGraph
import KeelPrimitives
import KeelRuntime
import Testing

/// Batch norms in the products that make their operands, and behind them: the same values in the same order.
@Suite(.serialized) @MainActor struct FusedBatchNormTests {
  /// Two layers, forward and backward; columns that fill tiles and that do not, or fewer than a vector has.
  private func layers(_ rows: Int, _ columns: [Int], _ dtype: DType) throws -> Graph {
    let builder = GraphBuilder(mode: .training, dtype: dtype)
    func input(_ name: String, _ shape: Shape, _ role: Role) -> Tensor {
      builder.input(name, TensorType(shape, dtype), role: role)
    }
    var (x, parameters): (Tensor, [Tensor]) = (input("x", [rows, 21], .data), [])
    for (layer, width) in columns.enumerated() {
      let w = input("w\(layer)", [x.shape[1], width], .parameter)
      let (scale, shift) = (input("scale\(layer)", [width], .parameter), input("shift\(layer)", [width], .parameter))
      let z = layer == 0 ? x.matMul(w) : x.matMul(w) + input("b\(layer)", [width], .parameter)
      let results = builder.append(.batchNormTraining(BatchNormTraining(axis: 1, epsilon: 1e-3)), [z, scale, shift])
      for (name, result) in zip(["mean", "residual", "variance"], results[1...]) {
        builder.output("\(name)\(layer)", result)
      }
      x = results[0].elementwise(.relu)
      parameters += [w, scale, shift]
    }
    builder.output("y", x)
    let loss = x.elementwise(.square).mean()
    for (index, gradient) in builder.gradients(of: loss, withRespectTo: parameters).enumerated() {
      builder.output("gradient\(index)", gradient)
    }
    return try builder.graph()
  }

  private func run(
    _ graph: Graph, _ context: ComputeContext, variant: String?, merges: Bool = false
  ) throws -> (results: [String: HostTensor], executable: Executable) {
    var options = Executable.Options()
    options.merges = merges
    if let variant {
      options.variants = [GemmBatchNormProblem.family: variant]
      options.omittedPasses = []
    }
    let executable = try Executable(
      graph, variables: VariableStore.filled(for: graph, context), options: options)
    try executable.run()
    var results: [String: HostTensor] = [:]
    for output in graph.outputs { results[output.name] = try executable.output(output.name) }
    return (results, executable)
  }

  @Test(arguments: [(40, [35, 64]), (3, [5, 17]), (256, [48, 33])])
  func bitsAreThoseOfTheParts(_ rows: Int, _ columns: [Int]) throws {
    for context in Devices.contexts {
      for dtype in [DType.float32] + (context.profile.hasFP64 ? [.float64] : []) {
        let graph = try layers(rows, columns, dtype)
        let unfused = try run(graph, context, variant: nil)
        #expect(!unfused.executable.variants.contains { $0.hasPrefix("gemmBatchNorm") })
        for variant in ["columns", "naive"] where variant == "naive" || context.profile.isCPU {
          for merges in dtype == .float32 ? [false, true] : [false] {
            let fused = try run(graph, context, variant: variant, merges: merges)
            #expect(fused.executable.variants.count { $0 == "gemmBatchNorm.\(variant)" } == 2)
            #expect(fused.results == unfused.results, "\(variant), \(dtype), merges \(merges)")
          }
        }
      }
    }
  }

  /// One launch a layer where columns are enough for the cores; the two parts' launches elsewhere.
  @Test func columnsAreForCPUs() throws {
    for context in Devices.contexts {
      let wide = GemmBatchNormProblem(
        GemmProblem(m: 8, n: 128 * context.profile.computeUnits, k: 3),
        BatchNormForwardProblem(
          ChannelExtents([8, 128 * context.profile.computeUnits], axis: 1), epsilon: 1e-3))
      #expect(try wide.variant(on: context.profile).name == (context.profile.isCPU ? "columns" : "naive"))
      var gpu = context.profile
      gpu.isCPU = false
      #expect(try wide.variant(on: gpu).name == "naive")
      #expect(throws: VariantUnavailable.self) { try wide.variant(on: gpu, forced: ["gemmBatchNorm": "columns"]) }
    }
  }
}
