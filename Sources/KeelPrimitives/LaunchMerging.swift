import Foundation
import KeelCL
import KeelCore

/// Neighbouring launches of a CPU device that are too small to be shared out, made into one.
///
/// Waking a driver's worker costs some microseconds a launch, more than a small launch computes. The kernels' own texts
/// become functions of one program, and one work-item calls them one after the other for all of their work-items, so
/// each result is computed by the same expressions as before.
enum LaunchMerging {
  /// The launches in order, runs of small ones together. Lists of one are to be compiled by themselves.
  static func runs(_ launches: [BoundLaunch], on profile: DeviceProfile, _ library: ProgramLibrary) throws
    -> [[BoundLaunch]]
  {
    guard profile.isCPU else { return launches.map { [$0] } }
    var runs: [[BoundLaunch]] = []
    var isOpen = false
    for launch in launches {
      let isMergeable = try launch.isSmall && library.isMergeable(launch)
      if isMergeable, isOpen { runs[runs.count - 1].append(launch) } else { runs.append([launch]) }
      isOpen = isMergeable
    }
    return runs
  }
}

extension BoundLaunch {
  /// Whether several cores have nothing to share, or gain less by sharing than waking them costs: some microseconds on
  /// one core, estimated from rates and costs that are typical of one.
  fileprivate var isSmall: Bool {
    let items = global.reduce(1, *)
    // A kernel that leaves its groups to the driver takes one element at a time.
    let slowness = local == nil ? 8.0 : 1
    return items == 1 || (flops / 40e9 + bytes / 10e9) * slowness + Double(items) * 10e-9 < 5e-6
  }
}

extension ProgramLibrary {
  /// Whether the launch's program uses nothing that only a kernel of its own has: local memory, barriers, sizes and
  /// indices of groups.
  fileprivate func isMergeable(_ launch: BoundLaunch) throws -> Bool {
    if launch.local.map({ $0.contains { $0 != 1 } }) ?? false { return false }
    let text = try text(of: launch.spec)
    return !["__local", "barrier(", "get_group_id", "get_num_groups", "get_local_", "get_global_size"].contains {
      text.contains($0)
    }
  }
}

extension ComputeContext {
  /// Compiles launches in order, those that are too small to be shared out together.
  ///
  /// - Parameter merges: false compiles each by itself.
  public func compile(_ launches: [BoundLaunch], merges: Bool) throws -> [CompiledLaunch] {
    guard merges else { return try launches.map { try compile($0) } }
    return try LaunchMerging.runs(launches, on: profile, programs).map { run in
      run.count == 1 ? try compile(run[0]) : try compile(merging: run)
    }
  }

  private func compile(merging run: [BoundLaunch]) throws -> CompiledLaunch {
    let merged = try MergedProgram(run, programs)
    let kernel = try programs.kernel(MergedProgram.kernel, text: merged.text, file: "merged")
    let numbers = try Buffer(context: context, byteCount: merged.numbers.count * MemoryLayout<Int64>.size)
    try queue.write(numbers, bytes: merged.numbers.withUnsafeBytes { Array($0) })
    for (index, buffer) in ([numbers] + merged.buffers).enumerated() { try kernel.setArgument(index, buffer) }
    return CompiledLaunch(
      label: "\(run.count) launches in one", parts: run.map(\.label), kernel: kernel, global: [1], local: [1],
      flops: run.reduce(0) { $0 + $1.flops }, bytes: run.reduce(0) { $0 + $1.bytes }, path: "")
  }
}

/// The text of one kernel that does the work of several launches, and what it is given.
///
/// Sizes, offsets and scalars lie in memory, not in the text: wherever the same launches of a network are small, they have
/// the same program.
struct MergedProgram {
  static let kernel = "merged"

  private(set) var text = ""
  /// Whole buffers: slices are offsets, so that few arguments do.
  private(set) var buffers: [Buffer] = []
  /// What the text takes from `numbers`, the kernel's first argument: extents, offsets and integers as they are, scalars
  /// by their bits.
  private(set) var numbers: [Int64] = []

  init(_ launches: [BoundLaunch], _ library: ProgramLibrary) throws {
    var functions: [ProgramSpec: Int] = [:]
    var calls = ""
    for launch in launches {
      let number: Int
      if let known = functions[launch.spec] {
        number = known
      } else {
        number = functions.count
        functions[launch.spec] = number
        text += Self.functions(of: try library.text(of: launch.spec), number)
      }
      let extents = (launch.global + [Int](repeating: 1, count: 3 - launch.global.count)).map { self.number(Int64($0)) }
      let arguments = launch.arguments.map { expression($0, launch.spec.dtype) }
      calls += """
          for (size_t z = 0; z < \(extents[2]); z++)
            for (size_t y = 0; y < \(extents[1]); y++)
              for (size_t x = 0; x < \(extents[0]); x++)
                \(launch.kernel)_part\(number)(x, y, z, \(arguments.joined(separator: ", ")));
          // What one launch wrote under one type the next may read or write under another.
          mem_fence(CLK_GLOBAL_MEM_FENCE);

        """
    }
    let parameters = buffers.indices.map { ", __global uchar* b\($0)" }.joined()
    text += """
      __kernel __attribute__((reqd_work_group_size(1, 1, 1))) void \(Self.kernel)(
          __global const long* numbers\(parameters)) {
      \(calls)}

      """
  }

  private mutating func number(_ value: Int64) -> String {
    numbers.append(value)
    return "numbers[\(numbers.count - 1)]"
  }

  /// The argument as an expression; a buffer is taken in among the kernel's own.
  private mutating func expression(_ argument: KernelArgument, _ dtype: DType) -> String {
    switch argument {
    case .int(let value): return "(int)" + number(Int64(value))
    case .long(let value): return number(Int64(value))
    case .real(let value) where dtype == .float64:
      return "as_double(\(number(Int64(bitPattern: value.bitPattern))))"
    case .real(let value):
      return "as_float((uint)\(number(Int64(Float(value).bitPattern))))"
    case .buffer(let buffer):
      let whole = buffer.parent ?? buffer
      let index = buffers.firstIndex { $0 === whole } ?? buffers.count
      if index == buffers.count { buffers.append(whole) }
      return "(__global void*)(b\(index) + \(number(Int64(buffer.byteOffset))))"
    }
  }

  /// A program's text with its kernels as functions, whose names end in its number and whose first three arguments are
  /// the indices of the work-item. What it defines is undefined again behind it.
  private static func functions(of text: String, _ number: Int) -> String {
    let kernels = text.replacing(/(?:KEEL_CPU\s+)?__kernel\s+void\s+(\w+)\(/) { match in
      "static void \(match.1)(size_t keel_x, size_t keel_y, size_t keel_z, "
    }
    // Functions at the beginning of a line, those that a macro makes (its first argument), and types.
    let names = Set(
      kernels.matches(
        of: /(?m)^(?:(?:static|KEEL_INLINE)\s[^;={(]*?(\w+)\(|[A-Z][A-Z0-9_]*\(([a-z]\w*),|}\s*(\w+);)/
      ).compactMap { ($0.1 ?? $0.2 ?? $0.3).map { String($0) } })
    // What is there once for all of a program's parts says so in the name of its guard.
    let macros = Set(kernels.matches(of: /(?m)^\s*#\s*define\s+(\w+)/).map { String($0.1) })
      .filter { !$0.hasPrefix("KEEL_ONCE_") }
    return """
      \(names.sorted().map { "#define \($0) \($0)_part\(number)" }.joined(separator: "\n"))
      #define get_global_id(axis) ((axis) == 0 ? keel_x : (axis) == 1 ? keel_y : keel_z)
      \(kernels)
      \((macros.union(names).union(["get_global_id"])).sorted().map { "#undef \($0)" }.joined(separator: "\n"))

      """
  }
}
