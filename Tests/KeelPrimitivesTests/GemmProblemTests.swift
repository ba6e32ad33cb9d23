import KeelCL
import KeelCore
import KeelPrimitives
import Testing

@Suite struct GemmProblemTests {
  /// All variants take one.
  private func cpu() throws -> Device { try #require(Device.all().first { $0.kind == .cpu }, "no CPU device") }

  private func bind(_ problem: GemmProblem, _ variant: String) throws -> [BoundLaunch] {
    let context = try ComputeContext(cpu(), environment: ["KEEL_CACHE_DIR": ""])
    // No launch is run: sizes need no memory behind them.
    let buffers = try (0..<4).map { _ in try context.buffer(byteCount: 64) }
    let operands = Operands(outputs: [buffers[0]], inputs: [buffers[1], buffers[2]], workspace: buffers[3])
    return try problem.variant(on: context.profile, forced: ["gemm": variant]).bind(problem, operands, context)
  }

  @Test(arguments: ["packed", "direct", "blocks64", "naive"]) func emptyProductsLaunchNothing(_ variant: String) throws
  {
    #expect(try bind(GemmProblem(m: 0, n: 3, k: 2), variant).isEmpty)
    #expect(try bind(GemmProblem(m: 3, n: 0, k: 2), variant).isEmpty)
    #expect(try !bind(GemmProblem(m: 3, n: 1, k: 2), variant).isEmpty)
  }

  @Test(arguments: ["packed", "direct", "blocks64", "naive"]) func sizesBeyondAnIntAreRefused(_ variant: String) {
    for size in [Int(Int32.max), Int(Int32.max) + 1, Int.max >> 8] {
      let error = #expect(throws: PrimitiveError.self) { try bind(GemmProblem(m: size, n: 1, k: 1), variant) }
      #expect(error?.description.contains("\(size)") == true)
      #expect(throws: PrimitiveError.self) { try bind(GemmProblem(m: 1, n: size, k: 1), variant) }
      #expect(throws: PrimitiveError.self) { try bind(GemmProblem(m: 1, n: 1, k: size), variant) }
    }
  }

  /// Nothing that is asked before a launch is bound may overflow.
  @Test func hugeProductsHaveAVariant() throws {
    let huge = GemmProblem(m: 1 << 40, n: 1 << 40, k: 1 << 40, transposeA: true)
    var profile = DeviceProfile(try cpu())
    for name in ["direct", "naive"] {
      #expect(try huge.variant(on: profile, forced: ["gemm": name]).workspaceBytes(huge, profile) == 0)
    }
    profile.isCPU = false
    #expect(try huge.variant(on: profile).workspaceBytes(huge, profile) == 0)
  }

  /// CUDA takes 65,535 groups at most on any axis but the first.
  @Test(arguments: ["blocks64", "naive"]) func manyRowsLieOnTheFirstAxis(_ variant: String) throws {
    for launch in try bind(GemmProblem(m: 5_000_000, n: 65, k: 1), variant) {
      #expect(launch.global.dropFirst().allSatisfy { $0 <= 65_535 })
      #expect(launch.global[0] >= 5_000_000 / 64)
    }
  }
}
