import KeelCL
import KeelCore

/// Something that kernels solve: its sizes and types, no buffers.
public protocol KernelProblem: Hashable, Sendable {
  /// Names the family in errors and in the choice of variants.
  static var family: String { get }
  /// Ordered: the first that takes device and problem, and suits them, wins. The last one does on every device.
  static var variants: [Variant<Self>] { get }
  /// Sizes, for a person: `32×10×32 NT`.
  var label: String { get }
  /// Element type of what is computed.
  var dtype: DType { get }
}

/// The buffers of one launch. A buffer may be both output and input where the kernel says so.
public struct Operands {
  /// As the problem lists them.
  public var outputs: [Buffer]
  /// As the problem lists them.
  public var inputs: [Buffer]
  /// What the slot's expression reads.
  public var extras: [Buffer]
  /// Scratch memory of `workspaceBytes`, where the variant wants some.
  public var workspace: Buffer?

  /// The buffers of one launch.
  public init(outputs: [Buffer], inputs: [Buffer], extras: [Buffer] = [], workspace: Buffer? = nil) {
    self.outputs = outputs
    self.inputs = inputs
    self.extras = extras
    self.workspace = workspace
  }
}

/// One way of solving a problem.
public struct Variant<Problem: KernelProblem>: Sendable {
  /// As `Options.variants` and errors name it.
  public let name: String
  /// Whether device and problem meet what the kernels assume.
  public let takes: @Sendable (Problem, DeviceProfile) -> Bool
  /// Whether the kernels are meant for such a device and size. Tests run them where they are not, too: those of GPUs on
  /// CPUs.
  public let suits: @Sendable (Problem, DeviceProfile) -> Bool
  /// Scratch memory wanted, in bytes.
  public let workspaceBytes: @Sendable (Problem, DeviceProfile) -> Int
  /// Builds the kernels and sets their arguments: launches in the order they must run.
  public let bind: @Sendable (Problem, Operands, ComputeContext) throws -> [BoundLaunch]

  init(
    _ name: String, takes: @escaping @Sendable (Problem, DeviceProfile) -> Bool = { _, _ in true },
    suits: @escaping @Sendable (Problem, DeviceProfile) -> Bool = { _, _ in true },
    workspaceBytes: @escaping @Sendable (Problem, DeviceProfile) -> Int = { _, _ in 0 },
    bind: @escaping @Sendable (Problem, Operands, ComputeContext) throws -> [BoundLaunch]
  ) {
    self.name = name
    self.takes = takes
    self.suits = suits
    self.workspaceBytes = workspaceBytes
    self.bind = bind
  }
}

extension KernelProblem {
  /// The variant for a device: the one that `forced` names for this family, else the one that was tuned for such a
  /// problem, else the first that takes the problem and suits it. Throws when the one that is forced does not exist or
  /// does not take the problem.
  public func variant(on profile: DeviceProfile, forced: [String: String] = [:]) throws -> Variant<Self> {
    let wanted = forced[Self.family]
    if wanted == nil, !profile.tuned.isEmpty, let tuned = profile.tuned[key],
      let variant = Self.variants.first(where: { $0.name == tuned && $0.takes(self, profile) })
    {
      return variant
    }
    for variant in Self.variants where wanted.map({ $0 == variant.name }) ?? true {
      if variant.takes(self, profile), wanted != nil || variant.suits(self, profile) { return variant }
    }
    throw VariantUnavailable(
      family: Self.family, variant: wanted ?? "any", problem: label, device: profile.name,
      known: Self.variants.map(\.name))
  }
}

/// No such variant, or it does not take the problem on the device.
public struct VariantUnavailable: Error, Equatable, CustomStringConvertible {
  /// The family that was asked.
  public let family: String
  /// The variant that was asked for, or `any`.
  public let variant: String
  /// Sizes of the problem.
  public let problem: String
  /// Name of the device.
  public let device: String
  /// The variants of the family.
  public let known: [String]

  public var description: String {
    "[\(family)] \(problem): expects one of \(known.joined(separator: ", ")), got \(variant), "
      + "which does not take it on \(device)"
  }
}

/// Every family with its variants in order, for tests that run them all.
public enum KernelFamilies {
  /// Names by family, in the order of choice.
  public static let variants: [String: [String]] = [
    AffineProductProblem.family: AffineProductProblem.variants.map(\.name),
    BatchNormForwardProblem.family: BatchNormForwardProblem.variants.map(\.name),
    BatchNormBackwardProblem.family: BatchNormBackwardProblem.variants.map(\.name),
    BatchNormRunningProblem.family: BatchNormRunningProblem.variants.map(\.name),
    ElementwiseProblem.family: ElementwiseProblem.variants.map(\.name),
    GatherProblem.family: GatherProblem.variants.map(\.name),
    GemmBatchNormProblem.family: GemmBatchNormProblem.variants.map(\.name),
    GemmProblem.family: GemmProblem.variants.map(\.name),
    OptimizerProblem.family: OptimizerProblem.variants.map(\.name),
    RecordProblem.family: RecordProblem.variants.map(\.name),
    ReductionProblem.family: ReductionProblem.variants.map(\.name),
    SoftmaxProblem.family: SoftmaxProblem.variants.map(\.name),
    TransposeProblem.family: TransposeProblem.variants.map(\.name),
  ]
}

/// Generated text for a kernel's slot: an elementwise expression over one value and extra operands.
public struct Slot: Hashable, Sendable {
  /// How an extra operand is indexed.
  public enum Access: String, Hashable, Sendable {
    /// As the kernel's own output.
    case full
    /// One element a column (a GEMM's N).
    case column
    /// One element a row (a GEMM's M).
    case row
    case scalar
  }

  /// How each extra operand is indexed.
  public var extras: [Access]
  /// Statements that rewrite `value`; the extra operands are `a0`, `a1`, … of type `V`.
  public var statements: String

  /// A slot of these statements.
  public init(extras: [Access], statements: String) {
    self.extras = extras
    self.statements = statements
  }

  /// Defines the macros of the slot `name` in front of a program.
  ///
  /// - Parameters:
  ///   - operand: what the names of the extra operands begin with, of each slot of a kernel another letter.
  ///   - isStored: the extra operands are of the program's `STORED`, not of its `REAL`.
  func fill(_ name: String, in spec: inout ProgramSpec, operand: String = "e", isStored: Bool = false) {
    let (type, load) = isStored ? ("STORED", "LOAD1_STORED") : ("REAL", "LOAD1")
    let parameters = extras.indices.map { ", __global const \(type)* \(operand)\($0)" }.joined()
    let loads = extras.enumerated().map { index, access in
      switch access {
      case .full: "V a\(index) = LOAD(\(operand)\(index), full); "
      case .column: "V a\(index) = LOAD(\(operand)\(index), col); "
      case .row: "V a\(index) = (V)(\(load)(\(operand)\(index), row)); "
      case .scalar: "V a\(index) = (V)(\(load)(\(operand)\(index), 0)); "
      }
    }.joined()
    spec.define("\(name)_PARAMETERS", parameters)
    spec.define("\(name)_ARGUMENTS", extras.indices.map { ", \(operand)\($0)" }.joined())
    spec.define("\(name)(V, LOAD, value, full, row, col)", "{ \(loads)\(statements) }")
  }
}

/// ⌈a / b⌉.
func divideUp(_ a: Int, _ b: Int) -> Int { (a + b - 1) / b }

/// The smallest multiple of b that is no less than a.
func roundUp(_ a: Int, _ b: Int) -> Int { divideUp(a, b) * b }
