import KeelCL

/// A program's text with its kernels as functions, to be part of another program, or of one whose kernel calls it.
///
/// Found by plain looks at the bytes, a line after the other: a training step has some hundred kilobytes of text, and
/// every process that trains goes through all of it before its first step.
struct KernelText {
  /// The text, a kernel being a function whose first arguments are the indices of the work-item and the extents of all.
  private(set) var text = ""
  /// What it defines at the beginning of a line: functions, those that a macro makes (its first argument), types.
  private(set) var names: Set<String> = []
  /// The macros that it defines.
  private(set) var macros: Set<String> = []

  private static let items =
    "size_t keel_x, size_t keel_y, size_t keel_z, size_t keel_nx, size_t keel_ny, size_t keel_nz, "

  init(_ program: String) {
    var lines: [Substring] = []
    for bytes in program.utf8.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false) {
      let line = Substring(bytes)
      let function = Self.function(line).map { Substring($0) } ?? line
      lines.append(function)
      if let name = Self.name(function.utf8) { names.insert(name) }
      if let macro = Self.macro(function.utf8) { macros.insert(macro) }
    }
    text = lines.joined(separator: "\n")
  }

  /// The text with names that end in a number, so that several can stand in a program. What it defines is undefined
  /// again behind it. What a work-item packs is private: a function has no local memory.
  func part(_ number: Int) -> String {
    // What is there once for all of a program's parts says so in the name of its guard.
    let macros = macros.filter { !$0.hasPrefix("KEEL_ONCE_") }
    return """
      \(names.sorted().map { "#define \($0) \($0)_part\(number)" }.joined(separator: "\n"))
      #define KEEL_SCRATCH __private
      #define get_global_id(axis) ((axis) == 0 ? keel_x : (axis) == 1 ? keel_y : keel_z)
      #define get_global_size(axis) ((axis) == 0 ? keel_nx : (axis) == 1 ? keel_ny : keel_nz)
      \(text)
      \(macros.union(names).union(["KEEL_SCRATCH", "get_global_id", "get_global_size"]).sorted()
        .map { "#undef \($0)" }.joined(separator: "\n"))

      """
  }

  /// A program whose kernel only calls a function that does what the launch's kernel does; nil where that cannot be:
  /// where it has memory of a group, or is written for more than one work-item in a group.
  static func apart(_ launch: BoundLaunch, _ program: String) -> String? {
    guard has(anyOf: ["KEEL_CPU __kernel void \(launch.kernel)("], in: program),
      !has(anyOf: ["__local ", "KEEL_SCRATCH REAL "], in: program)
    else { return nil }
    var parameters: [String] = []
    var arguments: [String] = []
    for (index, argument) in launch.arguments.enumerated() {
      switch argument {
      case .buffer:
        parameters.append("__global uchar* a\(index)")
        arguments.append("(__global void*)a\(index)")
        continue
      case .int: parameters.append("int a\(index)")
      case .long: parameters.append("long a\(index)")
      case .real: parameters.append("\(launch.spec.dtype == .float64 ? "double" : "float") a\(index)")
      }
      arguments.append("a\(index)")
    }
    let items = ["id", "size"].flatMap { word in (0..<3).map { "get_global_\(word)(\($0))" } }
    return KernelText(program).part(0) + """
      __attribute__((reqd_work_group_size(1, 1, 1)))
      __kernel void \(launch.kernel)(\(parameters.joined(separator: ", "))) {
        \(launch.kernel)_part0(\((items + arguments).joined(separator: ", ")));
      }

      """
  }

  /// Whether one of the words stands anywhere in a text.
  static func has(anyOf words: [String], in text: String) -> Bool {
    let patterns = words.map { Array($0.utf8) }
    let firsts = Set(patterns.compactMap(\.first))
    var text = text
    return text.withUTF8 { bytes in
      bytes.indices.contains { index in
        firsts.contains(bytes[index]) && patterns.contains { bytes[index...].starts(with: $0) }
      }
    }
  }

  /// The first line of a kernel as that of a function; nil for any other line.
  private static func function(_ line: Substring) -> String? {
    // `KEEL_CPU` or `__kernel` begins it.
    guard line.utf8.first == UInt8(ascii: "K") || line.utf8.first == UInt8(ascii: "_") else { return nil }
    for mark in ["KEEL_CPU __kernel void ", "__kernel void "] where line.hasPrefix(mark) {
      let rest = line.dropFirst(mark.count)
      guard let open = rest.utf8.firstIndex(of: UInt8(ascii: "(")) else { return nil }
      return "static KEEL_APART void \(rest[..<open])(\(items)\(rest[rest.utf8.index(after: open)...])"
    }
    return nil
  }

  /// What a line at whose beginning something is defined gives a name to.
  private static func name(_ line: Substring.UTF8View) -> String? {
    guard let first = line.first else { return nil }
    if first == UInt8(ascii: "}") {
      let name = line.dropFirst().drop { $0 == UInt8(ascii: " ") }.prefix(while: isInWord)
      return !name.isEmpty && line[name.endIndex...].first == UInt8(ascii: ";") ? String(Substring(name)) : nil
    }
    guard let open = line.firstIndex(of: UInt8(ascii: "(")) else { return nil }
    let head = line[..<open]
    if head.starts(with: "static ".utf8) || head.starts(with: "KEEL_INLINE ".utf8) {
      guard !head.contains(where: { $0 == UInt8(ascii: "=") || $0 == UInt8(ascii: ";") || $0 == UInt8(ascii: "{") })
      else { return nil }
      return word(atEndOf: head)
    }
    // MACRO(name, …
    guard isUpper(first), head.allSatisfy({ isUpper($0) || isDigit($0) || $0 == UInt8(ascii: "_") }) else { return nil }
    let argument = line[line.index(after: open)...].prefix(while: isInWord)
    guard let letter = argument.first, isLower(letter), line[argument.endIndex...].first == UInt8(ascii: ",")
    else { return nil }
    return String(Substring(argument))
  }

  /// The macro that a line defines.
  private static func macro(_ line: Substring.UTF8View) -> String? {
    let directive = line.drop { $0 == UInt8(ascii: " ") }
    guard directive.first == UInt8(ascii: "#") else { return nil }
    let word = directive.dropFirst().drop { $0 == UInt8(ascii: " ") }
    guard word.starts(with: "define ".utf8) else { return nil }
    let name = word.dropFirst(7).drop { $0 == UInt8(ascii: " ") }.prefix(while: isInWord)
    return name.isEmpty ? nil : String(Substring(name))
  }

  private static func word(atEndOf head: Substring.UTF8View) -> String? {
    let start = head.lastIndex { !isInWord($0) }.map { head.index(after: $0) } ?? head.startIndex
    return start == head.endIndex ? nil : String(Substring(head[start...]))
  }

  private static func isUpper(_ byte: UInt8) -> Bool { byte >= UInt8(ascii: "A") && byte <= UInt8(ascii: "Z") }
  private static func isLower(_ byte: UInt8) -> Bool { byte >= UInt8(ascii: "a") && byte <= UInt8(ascii: "z") }
  private static func isDigit(_ byte: UInt8) -> Bool { byte >= UInt8(ascii: "0") && byte <= UInt8(ascii: "9") }
  private static func isInWord(_ byte: UInt8) -> Bool {
    isUpper(byte) || isLower(byte) || isDigit(byte) || byte == UInt8(ascii: "_")
  }
}
