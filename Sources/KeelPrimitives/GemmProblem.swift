import KeelCL
import KeelCore

/// C[M, N] = epilogue(op(A)·op(B)), row-major. Operands: outputs C; inputs A, B.
public struct GemmProblem: KernelProblem {
  /// Rows of C.
  public var m: Int
  /// Columns of C.
  public var n: Int
  /// Terms of each sum.
  public var k: Int
  /// Whether A is stored as [K, M].
  public var transposeA: Bool
  /// Whether B is stored as [N, K].
  public var transposeB: Bool
  /// Element type of the floating-point operands.
  public var dtype: DType
  /// What becomes of C before it is stored; nil for nothing.
  public var epilogue: Slot?

  /// The problem of these sizes.
  public init(
    m: Int, n: Int, k: Int, transposeA: Bool = false, transposeB: Bool = false, dtype: DType = .float32,
    epilogue: Slot? = nil
  ) {
    self.m = m
    self.n = n
    self.k = k
    self.transposeA = transposeA
    self.transposeB = transposeB
    self.dtype = dtype
    self.epilogue = epilogue
  }

  /// The name of the family.
  public static let family = "gemm"
  /// Sizes, for a person.
  public var label: String { "\(m)×\(n)×\(k) \(transposeA ? "T" : "N")\(transposeB ? "T" : "N")" }

  var flops: Double { 2 * Double(m) * Double(n) * Double(k) }
  var bytes: Double { Double(m * k + k * n + m * n) * Double(dtype.byteCount) }

  /// The first that takes problem and device, and suits them, wins.
  public static let variants: [Variant<GemmProblem>] = [
    Variant(
      "packed", takes: { $0.k > 0 && $0.isForCPU(on: $1) && $1.localMemoryBytes >= packedRows * chunkBytes },
      suits: { problem, _ in problem.isLarge }, workspaceBytes: { $0.panelBytes }, bind: bindPacked),
    Variant("direct", takes: { $0.isForCPU(on: $1) }, bind: bindDirect),
    Variant(
      "blocks128", takes: { $0.fitsBlocks(128, on: $1) }, suits: { $0.suitsLargeBlocks($1) }, bind: bindBlocks(128)),
    Variant("blocks64", takes: { $0.fitsBlocks(64, on: $1) }, suits: { !$1.isCPU }, bind: bindBlocks(64)),
    Variant("naive", bind: bindNaive),
  ]
}

extension GemmProblem {
  /// Columns that a work-item of a CPU takes at a time; they lie together where B is packed.
  private static let panel = 32
  /// Rows that such a work-item packs at a time.
  private static let packedRows = 96
  /// K is cut so that a packed column has no more bytes: a panel then fits the first-level cache or nearly so.
  private static let chunkBytes = 2048

  private var panels: Int { divideUp(n, Self.panel) }
  private var panelBytes: Int { panels * Self.panel * k * dtype.byteCount }

  private func isForCPU(on profile: DeviceProfile) -> Bool { profile.isCPU && dtype.isFloatingPoint }

  /// Whether packing pays, as measured. Operands that lie as they are cost most where steps of k are far apart in memory,
  /// in Aᵀ and in B: from some size on each step is on a page that was forgotten since the last tile. Aᵀ is packed sooner
  /// where several panels of B pass over it.
  private var isLarge: Bool {
    let (bytesOfA, bytesOfB) = (m * k * dtype.byteCount, k * n * dtype.byteCount)
    return transposeA && bytesOfA > (n >= 128 ? 1 << 19 : 5 << 19)
      || min(m, n) >= 128 && bytesOfA + bytesOfB > 6 << 20
  }

  private static func bindPacked(
    _ problem: GemmProblem, _ operands: Operands, _ context: ComputeContext
  ) throws -> [BoundLaunch] {
    guard let panels = operands.workspace else {
      throw PrimitiveError(family, "\(problem.label): expects a workspace of \(problem.panelBytes) bytes, got none")
    }
    var spec = problem.spec("gemm_packed_cpu.cl")
    let largestChunk = chunkBytes / problem.dtype.byteCount
    spec.define("KC", "\(largestChunk)")
    spec.define("MC", "\(packedRows)")

    // Chunks of equal depth; as many blocks of rows for each core, or blocks of columns too where rows are few.
    let chunk = roundUp(divideUp(problem.k, divideUp(problem.k, largestChunk)), 8)
    let units = context.profile.computeUnits
    let rowBlocks = min(roundUp(divideUp(problem.m, packedRows), units), divideUp(problem.m, packedRows / 2))
    let rows = roundUp(divideUp(problem.m, rowBlocks), 8)
    let columnBlocks = min(divideUp(units, rowBlocks), divideUp(problem.panels, 4))
    let panelsPerItem = divideUp(problem.panels, columnBlocks)
    return [
      try context.bind(
        "gemm_pack_b", of: spec,
        [.buffer(panels), .buffer(operands.inputs[1]), .int(problem.n), .int(problem.k), .int(chunk)],
        global: [problem.panels, divideUp(problem.k, chunk)], isSingleItem: true, label: problem.label,
        bytes: Double(problem.panelBytes) * 2),
      try context.bind(
        "gemm_packed_cpu", of: spec,
        problem.arguments(operands, b: panels) + [.int(rows), .int(panelsPerItem), .int(chunk)],
        global: [divideUp(problem.m, rows), divideUp(problem.panels, panelsPerItem)], isSingleItem: true,
        label: problem.label, flops: problem.flops, bytes: problem.bytes),
    ]
  }

  private static func bindDirect(
    _ problem: GemmProblem, _ operands: Operands, _ context: ComputeContext
  ) throws -> [BoundLaunch] {
    let rows = problem.directRows(computeUnits: context.profile.computeUnits)
    return [
      try context.bind(
        "gemm_direct_cpu", of: problem.spec("gemm_direct_cpu.cl"), problem.arguments(operands) + [.int(rows)],
        global: [divideUp(problem.m, rows), problem.panels], isSingleItem: true, label: problem.label,
        flops: problem.flops, bytes: problem.bytes)
    ]
  }

  /// Rows of C for one work-item: all of them when there are panels enough for the cores, else a few items a core, of some
  /// microseconds each. Each row is computed alone, so the bits do not depend on it.
  private func directRows(computeUnits: Int) -> Int {
    // Each item packs its panel of a transposed B anew.
    let wanted = divideUp((transposeB ? 1 : 2) * computeUnits, panels)
    let least = divideUp(200_000, 2 * Self.panel * max(k, 1))
    return roundUp(max(divideUp(m, wanted), min(least, m)), 8)
  }

  /// Work-items on each side of a group that computes a block of C.
  private static let blockSide = 16

  private func fitsBlocks(_ block: Int, on profile: DeviceProfile) -> Bool {
    // Two slabs of 16 rows, with padding.
    dtype.isFloatingPoint && profile.maxWorkGroupSize >= Self.blockSide * Self.blockSide
      && profile.localMemoryBytes >= 2 * 16 * (block + 4) * dtype.byteCount
  }

  /// The larger block reads less, and needs more registers, and some groups a compute unit.
  private func suitsLargeBlocks(_ profile: DeviceProfile) -> Bool {
    !profile.isCPU && dtype == .float32 && divideUp(m, 128) * divideUp(n, 128) >= 2 * profile.computeUnits
  }

  private static func bindBlocks(
    _ block: Int
  ) -> @Sendable (GemmProblem, Operands, ComputeContext) throws -> [BoundLaunch] {
    { problem, operands, context in
      var spec = problem.spec("gemm_blocks.cl")
      spec.define("BLOCK", "\(block)")
      return [
        try context.bind(
          "gemm_blocks", of: spec, problem.arguments(operands),
          global: [divideUp(problem.n, block) * blockSide, divideUp(problem.m, block) * blockSide],
          local: [blockSide, blockSide], label: problem.label, flops: problem.flops, bytes: problem.bytes)
      ]
    }
  }

  private static func bindNaive(
    _ problem: GemmProblem, _ operands: Operands, _ context: ComputeContext
  ) throws -> [BoundLaunch] {
    [
      try context.bind(
        "gemm_naive", of: problem.spec("gemm_naive.cl"), problem.arguments(operands),
        global: [problem.n, problem.m], label: problem.label, flops: problem.flops, bytes: problem.bytes)
    ]
  }

  private func spec(_ file: String) -> ProgramSpec {
    var spec = ProgramSpec(file, dtype)
    spec.define("TRANSPOSE_A", transposeA ? "1" : "0")
    spec.define("TRANSPOSE_B", transposeB ? "1" : "0")
    epilogue?.fill("EPILOGUE", in: &spec)
    return spec
  }

  /// C, A, B or what stands for it, the epilogue's operands, and the sizes.
  private func arguments(_ operands: Operands, b: Buffer? = nil) -> [KernelArgument] {
    let buffers = operands.outputs + [operands.inputs[0], b ?? operands.inputs[1]] + operands.extras
    return buffers.map { .buffer($0) } + [.int(m), .int(n), .int(k)]
  }
}
