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

  @Test(arguments: ["packed", "split", "panels", "direct", "blocks64", "naive"])
  func emptyProductsLaunchNothing(_ variant: String) throws {
    #expect(try bind(GemmProblem(m: 0, n: 3, k: 2), variant).isEmpty)
    #expect(try bind(GemmProblem(m: 3, n: 0, k: 2), variant).isEmpty)
    #expect(try !bind(GemmProblem(m: 3, n: 1, k: 2), variant).isEmpty)
  }

  @Test(arguments: ["packed", "panels", "direct", "blocks64", "naive"]) func sizesBeyondAnIntAreRefused(
    _ variant: String
  ) {
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
    profile.localMemoryBytes = 0
    let narrow = GemmProblem(m: 1 << 24, n: 1, k: 1 << 40, transposeA: true)
    #expect(try narrow.variant(on: profile).workspaceBytes(narrow, profile) >= 0)
    profile.isCPU = false
    #expect(try huge.variant(on: profile).workspaceBytes(huge, profile) == 0)
  }

  /// A panel is packed for products alone, on CPUs, of a B that is not transposed.
  @Test func panelsTakeNoUpdateNoTransposedBAndNoGPU() throws {
    var profile = DeviceProfile(try cpu())
    let forced = ["gemm": "panels"]
    var problem = GemmProblem(m: 128, n: 33, k: 2)
    #expect(try problem.variant(on: profile, forced: forced).name == "panels")
    problem.transposeB = true
    #expect(throws: VariantUnavailable.self) { try problem.variant(on: profile, forced: forced) }
    problem.transposeB = false
    problem.update = .init(.sgd(momentum: 0, nesterov: false, weightDecay: 0), isGuarded: false)
    #expect(throws: VariantUnavailable.self) { try problem.variant(on: profile, forced: forced) }
    problem.update = nil
    profile.isCPU = false
    #expect(throws: VariantUnavailable.self) { try problem.variant(on: profile, forced: forced) }
  }

  /// Whatever is shared out covers all rows, and there is something for every core while there are eight rows for each.
  @Test(arguments: [1, 2, 4, 7, 64, 255]) func everyCoreHasRows(_ units: Int) throws {
    var profile = DeviceProfile(try cpu())
    profile.computeUnits = units
    let context = try ComputeContext(cpu(), profile: profile, environment: ["KEEL_CACHE_DIR": ""]).merging
    let buffers = try (0..<3).map { _ in try context.buffer(byteCount: 64) }
    let operands = Operands(outputs: [buffers[0]], inputs: [buffers[1], buffers[2]])
    for (m, n) in [(1, 5000), (32, 32), (32, 300), (64, 20), (100, 31), (1000, 300), (4096, 10)] {
      for (name, transposeB) in [("direct", false), ("direct", true), ("panels", false)] {
        let problem = GemmProblem(m: m, n: n, k: 2048, transposeB: transposeB)
        let variant = try problem.variant(on: profile, forced: ["gemm": name])
        let launch = try #require(try variant.bind(problem, operands, context).first)
        // M, N, K, rows of an item.
        let ints = launch.arguments.compactMap { if case .int(let value) = $0 { Int(value) } else { nil } }
        let rows = try #require(ints.last)
        #expect(ints.count == 4 && launch.global == [(m + rows - 1) / rows, (n + 31) / 32])
        let most = (m + 7) / 8 * launch.global[1]
        #expect(launch.global[0] * launch.global[1] >= min(units, most), "\(m)×\(n) \(name), \(rows) rows")
      }
    }
  }

  /// CUDA takes 65,535 groups at most on any axis but the first.
  @Test(arguments: ["blocks64", "naive"]) func manyRowsLieOnTheFirstAxis(_ variant: String) throws {
    for launch in try bind(GemmProblem(m: 5_000_000, n: 65, k: 1), variant) {
      #expect(launch.global.dropFirst().allSatisfy { $0 <= 65_535 })
      #expect(launch.global[0] >= 5_000_000 / 64)
    }
  }

  /// Slices of K are chosen by the shape, and are the same on any number of cores; rows are shared out as cores are.
  @Test func slicesDependOnTheShapeAlone() throws {
    func problem(_ m: Int, _ n: Int, _ k: Int, transposeA: Bool = false, transposeB: Bool = false) -> GemmProblem {
      GemmProblem(m: m, n: n, k: k, transposeA: transposeA, transposeB: transposeB)
    }
    let context = try ComputeContext(cpu(), environment: ["KEEL_CACHE_DIR": ""])
    let sliced = [problem(32, 32, 784), problem(784, 32, 256, transposeA: true)]
    let whole = [problem(256, 32, 784), problem(32, 32, 784, transposeB: true), problem(32, 32, 256, transposeA: true)]
    for problem in sliced { #expect(try problem.variant(on: context.profile).name == "split") }
    for problem in whole { #expect(try problem.variant(on: context.profile).name != "split") }

    func ints(_ launch: BoundLaunch) -> [Int] {
      launch.arguments.compactMap { if case .int(let value) = $0 { value } else { nil } }
    }
    for problem in sliced {
      let found = try [1, 2, 7].map { units -> (workspace: Int, slices: Int, depth: Int) in
        var profile = context.profile
        profile.computeUnits = units
        let several = try ComputeContext(cpu(), profile: profile, environment: ["KEEL_CACHE_DIR": ""])
        let variant = try problem.variant(on: profile)
        let buffers = try (0..<4).map { _ in try several.buffer(byteCount: 64) }
        let launches = try variant.bind(
          problem, Operands(outputs: [buffers[0]], inputs: [buffers[1], buffers[2]], workspace: buffers[3]),
          several.merging)
        try #require(launches.count == 2)
        #expect(launches[0].global[0] * launches[0].global[2] >= min(units, 4))
        // M, N, K, depth, …, and M, N, slices, …
        return (variant.workspaceBytes(problem, profile), ints(launches[1])[2], ints(launches[0])[3])
      }
      #expect(found.allSatisfy { $0 == found[0] })
      #expect(found[0].workspace == found[0].slices * problem.m * problem.n * 4)
      #expect(found[0].slices > 1 && (found[0].slices - 1) * found[0].depth < problem.k)
    }
  }
}
