import KeelCL
import KeelCore

/// C[M, N] = epilogue(op(A)·op(B)), row-major. Operands: outputs C; inputs A, B.
///
/// With an update, C is a parameter whose gradient that is, and is changed in place. Operands: outputs C and the
/// optimizer's slots; inputs A, B, learning rates, cursor, and when it is guarded a scalar.
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
  /// What changes C as its gradient says; nil where C is the product.
  public var update: Update?

  /// What an optimizer does with the product.
  public struct Update: Hashable, Sendable {
    public var rule: OptimizerProblem.Rule
    /// Whether a scalar decides: nothing changes unless it is finite.
    public var isGuarded: Bool

    public init(_ rule: OptimizerProblem.Rule, isGuarded: Bool) {
      self.rule = rule
      self.isGuarded = isGuarded
    }
  }

  /// The problem of these sizes.
  public init(
    m: Int, n: Int, k: Int, transposeA: Bool = false, transposeB: Bool = false, dtype: DType = .float32,
    epilogue: Slot? = nil, update: Update? = nil
  ) {
    self.m = m
    self.n = n
    self.k = k
    self.transposeA = transposeA
    self.transposeB = transposeB
    self.dtype = dtype
    self.epilogue = epilogue
    self.update = update
  }

  /// The name of the family.
  public static let family = "gemm"
  /// Sizes, for a person.
  public var label: String { "\(m)×\(n)×\(k) \(transposeA ? "T" : "N")\(transposeB ? "T" : "N")" }

  var flops: Double { Double(m) * Double(n) * (2 * Double(k) + (update == nil ? 0 : 10)) }
  var bytes: Double { bytesOfA + bytesOfB + Double(m) * Double(n) * Double(passesOverC * dtype.byteCount) }
  /// What is as large as C and read or written, how often.
  private var passesOverC: Int { update.map { 2 + 2 * $0.rule.slotCount } ?? 1 }
  private var bytesOfA: Double { Double(m) * Double(k) * Double(dtype.byteCount) }
  private var bytesOfB: Double { Double(k) * Double(n) * Double(dtype.byteCount) }

  /// The first that takes problem and device, and suits them, wins.
  public static let variants: [Variant<GemmProblem>] = [
    Variant(
      "packed", takes: { $0.isForCPU(on: $1) && $0.fitsPacked(on: $1) }, suits: { problem, _ in problem.isLarge },
      workspaceBytes: { problem, _ in problem.packedBytes }, bind: checked(bindPacked)),
    Variant(
      "split", takes: { $0.isForCPU(on: $1) && $0.fitsSlices }, suits: { problem, _ in problem.isForSlices },
      workspaceBytes: { problem, _ in problem.slices.count * problem.m * problem.n * problem.dtype.byteCount },
      bind: checked(bindSplit)),
    Variant(
      "panels", takes: { $0.isForCPU(on: $1) && !$0.transposeB && $0.update == nil },
      suits: { $0.suitsPanels(on: $1) }, bind: checked(bindDirect(packsB: true))),
    Variant(
      "direct", takes: { $0.isForCPU(on: $1) && (!$0.transposeB || $0.isOneChunkForUpdate) },
      bind: checked(bindDirect(packsB: false))),
    Variant(
      "blocks128", takes: { $0.fitsBlocks(128, on: $1) }, suits: { $0.suitsLargeBlocks($1) },
      bind: checked(bindBlocks(128))),
    Variant("blocks64", takes: { $0.fitsBlocks(64, on: $1) }, suits: { !$1.isCPU }, bind: checked(bindBlocks(64))),
    Variant("naive", bind: checked(bindNaive)),
  ]

  private typealias Bind = @Sendable (GemmProblem, Operands, ComputeContext) throws -> [BoundLaunch]

  /// No launches where C is empty; an error where a kernel's `int` cannot hold a size, rounded up.
  private static func checked(_ bind: @escaping Bind) -> Bind {
    { problem, operands, context in
      let sizes = [problem.m, problem.n, problem.k]
      guard sizes.allSatisfy({ (0...largestSize).contains($0) }) else {
        throw PrimitiveError(family, "\(problem.label): expects sizes of 0 to \(largestSize), got \(sizes)")
      }
      return problem.m == 0 || problem.n == 0 ? [] : try bind(problem, operands, context)
    }
  }

  /// Below 2³¹ by as much as a size is rounded up.
  private static let largestSize = Int(Int32.max) - 255
}

extension GemmProblem {
  /// Columns that a work-item of a CPU takes at a time; they lie together where B is packed.
  private static let panel = 32
  /// A packed column has no more bytes on any device, so that no more terms are one chunk of K everywhere.
  private static let leastChunkBytes = 1536

  /// Rows that a work-item of `packed` packs at a time, and bytes of a packed column: what the caches hold of either, as
  /// measured. With vectors of eight 2048³ reaches 85 % of multiply-adds so, and 80 % as with those of sixteen.
  private static func blocking(on profile: DeviceProfile) -> (rows: Int, chunkBytes: Int) {
    profile.vectorFloats == 16 ? (96, 2048) : (168, leastChunkBytes)
  }

  private var panels: Int { divideUp(n, Self.panel) }
  private var packedBytes: Int { panels * Self.panel * k * dtype.byteCount }

  private func isForCPU(on profile: DeviceProfile) -> Bool { profile.isCPU && dtype.isFloatingPoint }

  /// Whether packing pays, as measured. Operands that lie as they are cost most where steps of k are far apart in memory,
  /// in Aᵀ and in B: from some size on each step is on a page that was forgotten since the last tile. Aᵀ is packed sooner
  /// where several panels of B pass over it.
  private var isLarge: Bool {
    transposeA && bytesOfA > (n >= 128 ? 0x1p19 : 5 * 0x1p19)
      || min(m, n) >= 128 && bytesOfA + bytesOfB > 6 * 0x1p20
  }

  /// Between two chunks of K the sums wait in C, which a parameter has no room for.
  private var isOneChunkForUpdate: Bool { update == nil || k <= Self.leastChunkBytes / dtype.byteCount }

  /// A product without terms has no panels. The bound keeps their size within an integer.
  private func fitsPacked(on profile: DeviceProfile) -> Bool {
    let (rows, chunkBytes) = Self.blocking(on: profile)
    return k > 0 && isOneChunkForUpdate && bytesOfB < 0x1p58 && profile.localMemoryBytes >= rows * chunkBytes
  }

  private static func bindPacked(
    _ problem: GemmProblem, _ operands: Operands, _ context: ComputeContext
  ) throws -> [BoundLaunch] {
    guard let panels = operands.workspace else {
      throw PrimitiveError(family, "\(problem.label): expects a workspace of \(problem.packedBytes) bytes, got none")
    }
    var spec = problem.spec("gemm_packed_cpu.cl")
    let (packedRows, chunkBytes) = blocking(on: context.profile)
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
        bytes: Double(problem.packedBytes) * 2),
      try context.bind(
        "gemm_packed_cpu", of: spec,
        problem.arguments(operands, b: panels) + [.int(rows), .int(panelsPerItem), .int(chunk)],
        global: [divideUp(problem.m, rows), divideUp(problem.panels, panelsPerItem)], isSingleItem: true,
        label: problem.label, flops: problem.flops, bytes: problem.bytes),
    ]
  }

  /// Slices of K, a function of the shape alone: as many as there may be cores with few sums, of 128 terms and more.
  private var slices: Slices {
    Slices(values: k, atLeast: max(128, divideUp(k, 4)), of: 4)
  }

  /// What a slice packs of a transposed B is on the stack.
  private var fitsSlices: Bool {
    update == nil && k > 0 && Double(m) * Double(n) <= 0x1p24 && (!transposeB || slices.length <= 512)
  }

  /// Few sums of many terms, as a small layer has them; or the gradient of a small weight from an Aᵀ that fills a core's
  /// cache, of which each core then reads the rows that it has written. Measured on two cores.
  private var isForSlices: Bool {
    !transposeB && n <= 64
      && (transposeA ? Double(m) * Double(k) >= 0x1p17 && k >= 256 : m <= 64 && k >= 512)
  }

  private static func bindSplit(
    _ problem: GemmProblem, _ operands: Operands, _ context: ComputeContext
  ) throws -> [BoundLaunch] {
    let slices = problem.slices
    guard let sums = operands.workspace else {
      throw PrimitiveError(family, "\(problem.label): expects a workspace for \(slices.count) slices, got none")
    }
    // Without the epilogue, and without what does not concern the merge: fewer programs.
    var product = problem
    var merge = problem
    product.epilogue = nil
    (merge.transposeA, merge.transposeB) = (false, false)
    let isShort = problem.isShort(on: context.profile)
    let units = context.profile.computeUnits
    let blocks = isShort ? 1 : divideUp(2 * units, problem.panels * slices.count)
    let rows = roundUp(divideUp(problem.m, blocks), 8)
    let slicesPerItem = isShort ? slices.count : 1
    let mergedRows = isShort ? problem.m : divideUp(problem.m, units)
    let sizes = [KernelArgument.int(problem.m), .int(problem.n)]
    return [
      try context.bind(
        "gemm_split_cpu", of: product.spec("gemm_split_cpu.cl"),
        [.buffer(sums), .buffer(operands.inputs[0]), .buffer(operands.inputs[1])] + sizes
          + [.int(problem.k), .int(slices.length), .int(rows), .int(slicesPerItem)],
        global: [divideUp(problem.m, rows), problem.panels, divideUp(slices.count, slicesPerItem)],
        isSingleItem: true, label: problem.label, flops: problem.flops, bytes: problem.bytes),
      try context.bind(
        "gemm_merge_cpu", of: merge.spec("gemm_merge_cpu.cl"),
        [.buffer(operands.outputs[0]), .buffer(sums)] + operands.extras.map { .buffer($0) } + sizes
          + [.int(slices.count), .int(mergedRows)],
        global: [divideUp(problem.m, mergedRows)], isSingleItem: true, label: problem.label,
        bytes: Double((slices.count + 1) * problem.m * problem.n * problem.dtype.byteCount)),
    ]
  }

  /// - Parameter packsB: whether a B that is not transposed is packed as well, a panel at a time.
  private static func bindDirect(packsB: Bool) -> Bind {
    { problem, operands, context in
      let packs = packsB || problem.transposeB
      var spec = problem.spec("gemm_direct_cpu.cl")
      if packsB { spec.define("PACK_B", "1") }
      let rows = problem.directRows(packsB: packs, on: context.profile)
      return [
        try context.bind(
          "gemm_direct_cpu", of: spec, problem.arguments(operands) + [.int(rows)],
          global: [divideUp(problem.m, rows), problem.panels], isSingleItem: true, label: problem.label,
          flops: problem.flops, bytes: problem.bytes)
      ]
    }
  }

  /// Whether B is packed although it is not transposed. The narrower tile of vectors of eight reads it more often, and
  /// each of its rows lies in lines and pages of its own: 1000×300×784 takes a tenth less packed there, Aᵀ·B of 256³ 6 %,
  /// with vectors of sixteen no less.
  private func suitsPanels(on profile: DeviceProfile) -> Bool {
    profile.vectorFloats == 8 && n > Self.panel && m >= 128
  }

  /// Rows of C for one work-item: all of them when all takes one core no longer than to have another core help; else a
  /// number of items for each core, for the last of them not to be waited for. Each row is computed alone, so the bits
  /// do not depend on it.
  private func directRows(packsB: Bool, on profile: DeviceProfile) -> Int {
    if isShort(on: profile) { return roundUp(m, 8) }
    let units = profile.computeUnits
    func rows(items: Int) -> Int {
      let share = divideUp(m, divideUp(items, panels))
      // Sixteen make two tiles of six and one of four, or two of eight.
      let even = roundUp(share, 16)
      return divideUp(m, even) * panels < min(items, units) ? max(share / 8 * 8, 8) : even
    }
    // Each item packs its panel anew, which takes as long as some rows.
    if packsB {
      return max(rows(items: (transposeB ? 4 : 16) * units), min(rows(items: (transposeB ? 1 : 2) * units), 128))
    }
    return rows(items: 16 * units)
  }

  /// Whether all of it takes one core no longer than to have another core help: 10 µs where that must be woken.
  private func isShort(on profile: DeviceProfile) -> Bool {
    // Of whole panels; a row's way to memory counts as 16 terms.
    let operations = 2 * Double(m) * Double(panels * Self.panel) * Double(k + 16 + (update?.rule.terms ?? 0))
    return operations < (profile.sharesShortWork ? 0.1e6 : 2.5e6)
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
    !profile.isCPU && dtype == .float32
      && Double(divideUp(m, 128)) * Double(divideUp(n, 128)) >= Double(2 * profile.computeUnits)
  }

  private static func bindBlocks(_ block: Int) -> Bind {
    { problem, operands, context in
      var spec = problem.spec("gemm_blocks.cl")
      spec.define("BLOCK", "\(block)")
      return [
        try context.bind(
          "gemm_blocks", of: spec, problem.arguments(operands),
          // All groups lie on the first axis: CUDA has no more than 65,535 on the others.
          global: [divideUp(problem.n, block) * divideUp(problem.m, block) * blockSide, blockSide],
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
        global: [problem.n * problem.m], label: problem.label, flops: problem.flops, bytes: problem.bytes)
    ]
  }

  func spec(_ file: String, slot: String = "EPILOGUE") -> ProgramSpec {
    var spec = ProgramSpec(file, dtype)
    spec.define("TRANSPOSE_A", transposeA ? "1" : "0")
    spec.define("TRANSPOSE_B", transposeB ? "1" : "0")
    epilogue?.fill(slot, in: &spec)
    if let update {
      spec.define("UPDATE_\(update.rule.name.uppercased())", "1")
      update.rule.define(in: &spec, isGuarded: update.isGuarded)
    }
    return spec
  }

  /// C, A, B or what stands for it, the epilogue's operands, those of the update, and the sizes.
  private func arguments(_ operands: Operands, b: Buffer? = nil) -> [KernelArgument] {
    let (outputs, inputs) = (operands.outputs, operands.inputs)
    let buffers =
      [outputs[0], inputs[0], b ?? inputs[1]] + operands.extras + Array(outputs.dropFirst() + inputs.dropFirst(2))
    return buffers.map { .buffer($0) } + (update?.rule.settings ?? []) + [.int(m), .int(n), .int(k)]
  }
}
