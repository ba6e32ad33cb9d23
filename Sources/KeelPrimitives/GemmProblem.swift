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

  /// The first that takes device and problem wins.
  public static let variants: [Variant<GemmProblem>] = [
    Variant("tiledCPU", takes: { $1.isCPU && $0.dtype.isFloatingPoint }) { problem, operands, context in
      let rows = problem.rowsPerItem(computeUnits: context.profile.computeUnits)
      return [
        try context.bind(
          "gemm_tiled_cpu", of: problem.spec("gemm_tiled_cpu.cl"),
          problem.arguments(operands) + [.int(rows)],
          global: [divideUp(problem.m, rows), divideUp(problem.n, 16)], isSingleItem: true, label: problem.label,
          flops: problem.flops, bytes: problem.bytes)
      ]
    },
    Variant("naive") { problem, operands, context in
      [
        try context.bind(
          "gemm_naive", of: problem.spec("gemm_naive.cl"), problem.arguments(operands),
          global: [problem.n, problem.m], label: problem.label, flops: problem.flops, bytes: problem.bytes)
      ]
    },
  ]

  /// Rows of C for one work-item: all of them when there are panels enough for the cores, else a few items a core.
  /// Each row is computed alone, so the bits do not depend on it.
  private func rowsPerItem(computeUnits: Int) -> Int {
    let panels = divideUp(n, 16)
    let wanted = divideUp(2 * computeUnits, panels)
    // Multiples of the register tile's six rows; work-items of at least some 100 kFLOP.
    let least = max(6, divideUp(100_000, 32 * max(k, 1)))
    return divideUp(max(divideUp(m, wanted), min(least, m)), 6) * 6
  }

  private func spec(_ file: String) -> ProgramSpec {
    var spec = ProgramSpec(file, dtype)
    spec.define("TRANSPOSE_A", transposeA ? "1" : "0")
    spec.define("TRANSPOSE_B", transposeB ? "1" : "0")
    epilogue?.fill("EPILOGUE", in: &spec)
    return spec
  }

  private func arguments(_ operands: Operands) -> [KernelArgument] {
    (operands.outputs + operands.inputs + operands.extras).map { .buffer($0) } + [.int(m), .int(n), .int(k)]
  }
}
